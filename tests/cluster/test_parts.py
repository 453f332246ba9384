"""The versions that the documentation names are those that are built."""

import contextlib
import io
import unittest

import parts
from cluster import ROOT


class Parts(unittest.TestCase):
    def test_the_documentation_has_the_versions(self):
        with contextlib.redirect_stdout(io.StringIO()) as table:
            parts.print_versions()
        self.assertIn(table.getvalue(), (ROOT / "deploy" / "README.md").read_text())


if __name__ == "__main__":
    unittest.main()
