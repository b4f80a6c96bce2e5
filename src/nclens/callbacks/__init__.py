"""Neural collapse measured in other people's training loops, and recorded for a study."""
