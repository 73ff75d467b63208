"""Run the command line by ``python -m whinchat``, as ``accelerate launch -m whinchat`` does."""

from whinchat.cli.app import main

if __name__ == "__main__":
    main()
