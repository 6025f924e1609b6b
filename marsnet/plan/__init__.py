"""The ContactPlan as data: contacts, ranges and rates, and its file formats."""
