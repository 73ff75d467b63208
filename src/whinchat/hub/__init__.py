"""The Hugging Face hub: download classifiers, and upload runs and classifiers."""
