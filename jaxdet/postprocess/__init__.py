"""What happens to detections after the head: test-time augmentation, Seq-NMS."""
