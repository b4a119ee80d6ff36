"""``python -m pointsman``: the command line."""

from pointsman.cli.app import main

if __name__ == "__main__":
    main()
