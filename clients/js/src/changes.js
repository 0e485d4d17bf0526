// Symbols that frames have touched, added up until they are taken.

export class ChangeLog {
  #added = new Set();
  #updated = new Set();
  #removed = new Set();
  #moved = new Set();

  /** What the decoder's last frame has touched. */
  add({ added, updated, removed, moved }) {
    for (const symbol of removed) {
      this.#updated.delete(symbol);
      this.#moved.delete(symbol);
      // What came and went is as if it had never been.
      if (!this.#added.delete(symbol)) this.#removed.add(symbol);
    }
    for (const symbol of added) {
      if (this.#removed.delete(symbol)) {
        // It went and came back, perhaps with another record and elsewhere.
        this.#updated.add(symbol);
        this.#moved.add(symbol);
      } else this.#added.add(symbol);
    }
    for (const symbol of updated) if (!this.#added.has(symbol)) this.#updated.add(symbol);
    for (const symbol of moved) if (!this.#added.has(symbol)) this.#moved.add(symbol);
  }

  /** All that was touched since the last call. */
  take() {
    const sets = { added: this.#added, updated: this.#updated, removed: this.#removed, moved: this.#moved };
    [this.#added, this.#updated, this.#removed, this.#moved] = [new Set(), new Set(), new Set(), new Set()];
    return Object.fromEntries(Object.entries(sets).map(([kind, symbols]) => [kind, [...symbols]]));
  }
}
