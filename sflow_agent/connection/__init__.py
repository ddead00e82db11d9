"""The agent's connections to its controller: which addresses they lead to, and what arrives on them."""
