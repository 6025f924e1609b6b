"""Bundle protocol engines (sans-IO) and the node that runs them."""
