"""The contributions of the plugin to napari: commands, reader, writer, sample data."""
