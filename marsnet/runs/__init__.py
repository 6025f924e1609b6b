"""A run: plan, deploy, drive, observe, judge, report."""
