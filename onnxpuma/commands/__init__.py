"""The commands, one file each; they print through `screen`."""
