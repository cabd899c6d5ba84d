"""Every setting, its default and its bounds; imports nothing of ours."""
