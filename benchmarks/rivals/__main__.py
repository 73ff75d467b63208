"""``python -m benchmarks.rivals``; the guard keeps the contestants' processes from importing the driver."""

if __name__ == "__main__":
    import sys

    from benchmarks.rivals.run import main

    sys.exit(main())
