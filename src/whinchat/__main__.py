"""``python -m whinchat``, which is how ``accelerate launch -m whinchat`` starts it."""

from whinchat.cli.app import main

if __name__ == "__main__":
    main()
