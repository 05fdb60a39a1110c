"""Turns the lines of a text into arrays: a row per letter, a column per position."""

import sys
from pathlib import Path

import numpy as np

LETTERS = "aeiouybcdfghjklmnpqrstvwxz '"
label, text, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
(out / label).mkdir(parents=True, exist_ok=True)
for number, line in enumerate(filter(str.strip, text.read_text().lower().splitlines())):
    grid = np.zeros((len(LETTERS), 64), bool)
    for place, letter in enumerate(line[:64]):
        grid[LETTERS.find(letter), place] = letter in LETTERS
    np.save(out / label / f"{number}.npy", grid)
