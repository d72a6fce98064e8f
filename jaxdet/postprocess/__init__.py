"""Steps between the head and the stored detections: Seq-NMS."""
