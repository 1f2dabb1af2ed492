"""Questions as jobs: queue, progress, cancelling, deadlines, and reports that survive a restart."""
