"""`python -m napari_siren`: entry point of the command line."""

from napari_siren.cli.app import main

if __name__ == "__main__":
    main()
