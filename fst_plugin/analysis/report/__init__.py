"""`fst report`: one self-contained HTML page on one or more runs, and its charts as PNG files.

    page.py       what the page says, as plain data, and the writing of it
    charts.py     the charts (matplotlib)
    tree.py       that tree as it is drawn, and what is said of each prompt
    lineage.py    where prompts came from: tree, who holds which problem
    changes.py    what a prompt changed in its parent
    templates/    the page (jinja2, everything escaped), its style and its script

The page loads nothing from anywhere, and its content security policy runs no script but its own: texts of models and
environments are shown, never executed. Needs the extra `analysis`.
"""

from .page import write

__all__ = ["write"]
