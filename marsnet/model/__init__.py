"""Typed, validated topologies and scenarios. Nothing else in marsnet knows YAML."""
