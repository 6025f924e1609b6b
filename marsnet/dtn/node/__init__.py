"""The bundle node: agent, traffic, ledger, metrics, and the asyncio runner around them."""
