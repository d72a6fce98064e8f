"""Images: files, sets of labelled images, letterbox, augmentation, batches."""
