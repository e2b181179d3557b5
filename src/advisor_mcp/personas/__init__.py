"""Personas: their files, their prompts, and answers held against their rules."""

from advisor_mcp.personas.checks import Violation, check_rules
from advisor_mcp.personas.loading import load_persona, parse_persona
from advisor_mcp.personas.persona import Check, Domain, Item, Persona, Rule, Step
from advisor_mcp.personas.rendering import render_persona
from advisor_mcp.personas.shared import SHARED_RULES

__all__ = [
    "SHARED_RULES",
    "Check",
    "Domain",
    "Item",
    "Persona",
    "Rule",
    "Step",
    "Violation",
    "check_rules",
    "load_persona",
    "parse_persona",
    "render_persona",
]
