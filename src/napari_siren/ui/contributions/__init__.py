"""What the plugin adds to napari: commands, reader, writer, sample data."""
