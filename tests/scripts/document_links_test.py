"""Every relative link in the Markdown documents of this tree leads to a file, and to a heading where it names one."""

import os
import re
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SKIPPED = {".git", "build", "runs"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def documents():
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (os.path.join(folder, name) for name in names if name.endswith(".md"))


def text_of(path):
    with open(path, encoding="utf-8") as document:
        return FENCE.sub("", document.read())


def anchors_of(path):
    """As GitHub makes them from headings."""
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            for heading in HEADING.findall(text_of(path))}


def broken_links(path):
    broken = []
    for link in LINK.findall(text_of(path)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        if not os.path.exists(file) or (anchor and anchor not in anchors_of(file)):
            broken.append(f"{os.path.relpath(path, ROOT)}: {link}")
    return broken


class DocumentLinks(unittest.TestCase):
    def test_lead_somewhere(self):
        paths = sorted(documents())
        self.assertGreater(len(paths), 5)
        self.assertEqual([link for path in paths for link in broken_links(path)], [])

    def test_every_decision_is_in_the_list(self):
        folder = os.path.join(ROOT, "docs", "decisions")
        pages = {name for name in os.listdir(folder) if re.match(r"\d{4}-.*\.md$", name)}
        self.assertEqual(pages - set(LINK.findall(text_of(os.path.join(folder, "README.md")))), set())


if __name__ == "__main__":
    unittest.main()
