"""Gateway API manages inference traffic (requirement ai_inference)."""
