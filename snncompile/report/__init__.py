"""What people read: the summary on the terminal, and the self-contained HTML report. Both are made from the manifest alone."""
