from __future__ import annotations

import re

import tantivy

from benchmarks.compare.system import TEXT_ONLY, System


class Tantivy(System):
    title = "Tantivy"
    packages = ("tantivy",)
    about = "`en_stem`, words joined by OR, one commit"
    cannot = {"vector": TEXT_ONLY, "exact": TEXT_ONLY, "hybrid": TEXT_ONLY, "both": TEXT_ONLY, "filter": TEXT_ONLY}

    def create(self, folder, how, *, dimension, text):
        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("id", stored=True)
        schema.add_text_field("text", stored=True, tokenizer_name="en_stem", index_option="freq")
        self.index = tantivy.Index(schema.build(), path=str(folder))
        self.writer = self.index.writer(heap_size=256 << 20, num_threads=1)

    def add(self, rows):
        for row, text in zip(rows.ids, rows.texts, strict=True):
            self.writer.add_document(tantivy.Document(id=row, text=text))

    def finish(self):
        self.writer.commit()
        self.writer.wait_merging_threads()

    def open(self, folder, how):
        self.index = tantivy.Index.open(str(folder))
        self.searcher = self.index.searcher()

    def keyword(self, text, k):
        query = self.index.parse_query(" ".join(re.findall(r"[^\W_]+", text.lower())), ["text"])
        found = [self.searcher.doc(address) for _, address in self.searcher.search(query, k, count=False).hits]
        return [document["id"][0] for document in found], [document["text"][0] for document in found]
