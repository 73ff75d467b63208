"""The arena: methods x training rows x seeds on equal data, with what each costs."""
