"""Event recordings: source files, prepared recordings, windows, packing, augmentation."""
