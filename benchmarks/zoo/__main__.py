"""``python -m benchmarks.zoo``; the guard keeps worker processes from importing the driver."""

if __name__ == "__main__":
    import sys

    from benchmarks.zoo.run import main

    sys.exit(main())
