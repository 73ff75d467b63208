"""``python -m benchmarks``; the guard keeps worker processes, which import this module, from importing the driver."""

if __name__ == "__main__":
    import sys

    from benchmarks.run import main

    sys.exit(main())
