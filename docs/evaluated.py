"""A directive for a few lines of Python that run in the Sphinx process, shown as the code cells of notebooks are.

A code cell costs the start of a kernel and the imports of its page. Pages that only show tables and designs use this in
its place; tutorials, whose cells build on each other, keep code cells.
"""

import ast
import warnings
from contextlib import redirect_stdout
from io import StringIO

from docutils import nodes
from docutils.parsers.rst import directives
from IPython.lib.pretty import pretty
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def evaluate(code: str) -> tuple[str, object]:
    """Run code in a namespace of its own, warnings as errors; return what it prints and the value it ends with.

    The value is None where the last statement is no expression.
    """
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    namespace: dict[str, object] = {"__name__": "__main__"}
    with redirect_stdout(StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # libraries' own, as Python ignores them
        exec(compile(tree, "<evaluated>", "exec"), namespace)  # noqa: S102 - our own pages
        value = eval(compile(ast.Expression(last.value), "<evaluated>", "eval"), namespace) if last else None  # noqa: S307
    return printed.getvalue(), value


class Evaluated(SphinxDirective):
    """``evaluated``: its content, unless ``:hide-code:`` is given, what that prints, and its last value.

    Whatever the code raises is an error of the page at the line of the directive, which fails a build with ``-W``.
    """

    has_content = True
    option_spec = {"hide-code": directives.flag}  # noqa: RUF012 - the form that docutils documents

    def run(self) -> list[nodes.Node]:
        """Return the nodes of a notebook cell, under the classes that myst-nb and the theme style."""
        self.env.note_reread()  # what it shows depends on files that Sphinx does not know
        code = "\n".join(self.content)
        try:
            printed, value = evaluate(code)
        except Exception as error:
            raise self.error(f"{type(error).__name__}: {error}") from error
        cell = nodes.container(classes=["cell"])
        if "hide-code" not in self.options:
            source = nodes.literal_block(code, code, language="python")
            cell += nodes.container("", source, classes=["cell_input"])
        outputs = [_plain(printed)] if printed else []
        if value is not None:
            outputs.append(_html(value) if hasattr(value, "_repr_html_") else _plain(pretty(value)))
        if outputs:
            cell += nodes.container("", *outputs, classes=["cell_output"])
        return [cell]


def _plain(text: str) -> nodes.Node:
    return nodes.literal_block(text, text, language="none", classes=["output", "text_plain"])


def _html(value: object) -> nodes.Node:
    return nodes.raw("", f'<div class="output text_html">{value._repr_html_()}</div>', format="html")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("evaluated", Evaluated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
