"""`python -m benchmarks [names…] [--quick] [--json FILE]`."""

if __name__ == "__main__":  # and not in the processes that an import begins, which would load all of it
    from benchmarks.table import main

    raise SystemExit(main())
