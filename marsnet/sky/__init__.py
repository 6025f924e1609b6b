"""Geometry and link budgets: the room that makes the contact plan."""
