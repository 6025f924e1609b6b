"""Payloads that follow from recipes: recognised by their octets alone, never assumed, sent as they were."""

from __future__ import annotations

import pytest

from marsnet.dtn.bpv7 import Bundle, CreationTimestamp, Eid, decode, encode, fragment_at
from marsnet.dtn.bpv7.codec import encode_rope, with_rope
from marsnet.dtn.node.keeping import payload_place
from marsnet.dtn.recipe import Recipe, Recipes, Rope

SIZE = 20_000
RECIPE = Recipe("imagery", 7, SIZE)
HERE, THERE = Eid.ipn(1, 1), Eid.ipn(2, 1)


def bundle(payload: bytes, sequence: int = 0) -> Bundle:
    return Bundle.create(HERE, THERE, payload, CreationTimestamp(812_000_000_000, sequence), 60_000)


def kept(book: Recipes, made: Bundle, octets: bytes | None = None) -> bytes | Rope:
    encoded = encode(made) if octets is None else octets
    whole = bundle(b"").id.key
    return book.rope(whole, encoded, *payload_place(made, encoded), made.fragment_offset or 0)


@pytest.fixture
def book() -> Recipes:
    book = Recipes()
    book.note(bundle(b"").id.key, RECIPE)
    return book


def test_what_a_recipe_makes_is_not_kept(book: Recipes) -> None:
    octets = encode(bundle(RECIPE.octets()))
    rope = kept(book, bundle(RECIPE.octets()))
    assert isinstance(rope, Rope)
    assert bytes(rope) == octets
    assert len(rope.head) + len(rope.tail) < 100


@pytest.mark.parametrize(("offset", "length"), [(0, 9000), (9000, 11_000), (1, SIZE - 1)])
def test_a_fragment_is_a_range_of_its_recipe(book: Recipes, offset: int, length: int) -> None:
    part = fragment_at(bundle(RECIPE.octets()), offset, length)
    rope = kept(book, part)
    assert isinstance(rope, Rope)
    assert (rope.begin, rope.end) == (offset, offset + length)
    assert bytes(rope) == encode(part)


def test_anything_else_is_kept_as_octets(book: Recipes) -> None:
    octets = RECIPE.octets()
    changed = octets[:-1] + bytes([octets[-1] ^ 1])
    for other in (changed, octets + b"x", octets[1:], Recipe("imagery", 8, SIZE).octets()):
        assert kept(book, bundle(other)) == encode(bundle(other))
    assert kept(Recipes(), bundle(octets)) == encode(bundle(octets))
    small = Recipes()
    small.note(bundle(b"").id.key, Recipe("imagery", 7, 100))
    assert isinstance(kept(small, bundle(Recipe("imagery", 7, 100).octets())), bytes)


def test_a_bundle_leaves_as_it_would_with_its_payload_at_hand(book: Recipes) -> None:
    rope = kept(book, bundle(RECIPE.octets()))
    assert isinstance(rope, Rope)
    whole = decode(bytes(rope))
    lean = with_rope(whole, rope)
    assert lean.payload == whole.payload
    assert lean.blocks[-1].size == SIZE
    onward, leaner = whole.forwarded(HERE, 5), lean.forwarded(HERE, 5)
    sent = encode_rope(leaner)
    assert isinstance(sent, Rope)
    assert bytes(sent) == encode(onward) == encode(leaner)
    assert encode(fragment_at(lean, 10, 5000)) == encode(fragment_at(whole, 10, 5000))
    assert encode_rope(onward) == encode(onward)
