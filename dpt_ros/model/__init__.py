"""The network: torch and timm, nothing else of ours."""
