"""The four examples of RFC 9173 appendix A, octet by octet, made and read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from marsnet.dtn.bpsec import (
    AesVariant,
    FailureReason,
    Key,
    SecurityBlock,
    SecurityError,
    ShaVariant,
    decrypt,
    encrypt,
    sign,
    verify,
)
from marsnet.dtn.bpv7 import BlockType, Bundle, DecodeLimits, Eid, decode, encode

# The appendix's bundles have creation time 0 and no Bundle Age block.
LIMITS = DecodeLimits(need_age=False)
HMAC_KEY = Key("A.1", bytes.fromhex("1a2b1a2b1a2b1a2b1a2b1a2b1a2b1a2b"))
WRAPPING_KEY = Key("A.2 KEK", b"abcdefghijklmnop", wraps=True)
CONTENT_KEY = Key("A.3", b"qwertyuiopasdfgh")
LONG_KEY = Key("A.4", b"qwertyuiopasdfghqwertyuiopasdfgh")
IV = b"Twelve121212"
NODE_2 = Eid.parse("ipn:2.1")
NODE_3 = Eid.parse("ipn:3.0")

PLAIN = (
    "9f88070000820282010282028202018202820201820018281a000f4240"
    "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164ff"
)
PLAIN_WITH_AGE = (
    "9f88070000820282010282028202018202820201820018281a000f424085070200004319012c"
    "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164ff"
)
A1 = (
    "9f88070000820282010282028202018202820201820018281a000f4240850b0200005856810101018202820201828201078203008181"
    "820158403bdc69b3a34a2b5d3a8554368bd1e808f606219d2a10a846eae3886ae4ecc83c4ee550fdfb1cc636b904e2f1a73e303dcd4b"
    "6ccece003e95e8164dcc89a156e185010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f"
    "6164ff"
)
A2 = (
    "9f88070000820282010282028202018202820201820018281a000f4240850c02010058508101020182028202018482014c5477656c76"
    "653132313231328202018203581869c411276fecddc4780df42c8a2af89296fabf34d7fae7008204008181820150efa4b5ac0108e381"
    "6c5606479801bc04850101000058233a09c1e63fe23a7f66a59c7303837241e070b02619fc59c5214a22f08cd70795e73e9aff"
)
A3 = (
    "9f88070000820282010282028202018202820201820018281a000f4240850b030000585c8200020101820282030082820105820300828"
    "182015820cac6ce8e4c5dae57988b757e49a6dd1431dc04763541b2845098265bc817241b81820158203ed614c0d97f49b3633627779a"
    "a18a338d212bf3c92b97759d9739cd50725596850c04010058348101020182028202018382014c5477656c7665313231323132820201"
    "8204008181820150efa4b5ac0108e3816c5606479801bc0485070200004319012c850101000058233a09c1e63fe23a7f66a59c730383"
    "7241e070b02619fc59c5214a22f08cd70795e73e9aff"
)
A4 = (
    "9f88070000820282010282028202018202820201820018281a000f4240850b0300005846438ed6208eb1c1ffb94d952175167df09029"
    "02064a2983910c4fb2340790bf420a7d1921d5bf7c4721e02ab87a93ab1e0b75cf62e4948727c8b5dae46ed2af05439b88029191850c"
    "0201005849820301020182028202018382014c5477656c76653132313231328202038204078281820150220ffc45c8a901999ecc6099"
    "1dd78b2981820150d2c51cb2481792dae8b21d848cede99b8501010000582390eab6457593379298a8724e16e61f837488e127212b59"
    "ac91f8a86287b7d07630a122ff"
)


def example_1(bundle: Bundle) -> Bundle:
    return sign(bundle, [1], HMAC_KEY, source_eid=NODE_2, variant=ShaVariant.HMAC_512, scope=0, number=2)


def example_2(bundle: Bundle) -> Bundle:
    octets = iter((CONTENT_KEY.material, IV))
    return encrypt(
        bundle,
        [1],
        WRAPPING_KEY,
        source_eid=NODE_2,
        variant=AesVariant.A128GCM,
        scope=0,
        number=2,
        entropy=lambda _: next(octets),
    )


def example_3(bundle: Bundle) -> Bundle:
    signed = sign(bundle, [0, 2], HMAC_KEY, source_eid=NODE_3, variant=ShaVariant.HMAC_256, scope=0, number=3)
    return encrypt(signed, [1], CONTENT_KEY, source_eid=NODE_2, variant=AesVariant.A128GCM, scope=0, number=4, iv=IV)


def example_4(bundle: Bundle) -> Bundle:
    signed = sign(bundle, [1], HMAC_KEY, source_eid=NODE_2, variant=ShaVariant.HMAC_384, scope=7, number=3)
    return encrypt(signed, [3, 1], LONG_KEY, source_eid=NODE_2, variant=AesVariant.A256GCM, scope=7, number=2, iv=IV)


@pytest.mark.parametrize(
    ("plain", "make", "secured"),
    [
        (PLAIN, example_1, A1),
        (PLAIN, example_2, A2),
        (PLAIN_WITH_AGE, example_3, A3),
        (PLAIN, example_4, A4),
    ],
    ids=["A.1", "A.2", "A.3", "A.4"],
)
def test_examples_are_made_octet_by_octet(plain: str, make: Callable[[Bundle], Bundle], secured: str) -> None:
    assert encode(make(decode(bytes.fromhex(plain), LIMITS))).hex() == bytes.fromhex(secured).hex()


@pytest.mark.parametrize(
    ("plain", "secured", "sealing", "operations"),
    [
        (PLAIN, A1, None, {1}),
        (PLAIN, A2, WRAPPING_KEY, set()),
        (PLAIN_WITH_AGE, A3, CONTENT_KEY, {0, 2}),
        (PLAIN, A4, LONG_KEY, {1}),
    ],
    ids=["A.1", "A.2", "A.3", "A.4"],
)
def test_examples_are_read(plain: str, secured: str, sealing: Key | None, operations: set[int]) -> None:
    bundle = decode(bytes.fromhex(secured), LIMITS)
    bcb = bundle.block(BlockType.CONFIDENTIALITY)
    if bcb is not None and sealing is not None:
        content = SecurityBlock.decode(bcb.data)
        assert content.encode() == bcb.data
        for target in content.targets:
            bundle = decrypt(bundle, bcb, content, target, sealing)
    verified = set()
    bib = bundle.block(BlockType.INTEGRITY)
    if bib is not None:
        content = SecurityBlock.decode(bib.data)
        assert content.encode() == bib.data
        for target in content.targets:
            verify(bundle, bib, content, target, HMAC_KEY)
            verified.add(target)
    assert verified == operations
    security = (BlockType.INTEGRITY, BlockType.CONFIDENTIALITY)
    stripped = bundle.with_blocks(block for block in bundle.blocks if block.type not in security)
    assert encode(stripped).hex() == plain


def test_example_3_as_its_erratum_corrects_it_is_read() -> None:
    published = "cac6ce8e4c5dae57988b757e49a6dd1431dc04763541b2845098265bc817241b"
    corrected = "8e059b8e71f7218264185a666bf3e453076f2b883f4dce9b3cdb6464ed0dcf0f"
    bundle = decode(bytes.fromhex(A3.replace("\n", "").replace(published, corrected)), LIMITS)
    bib = bundle.block(BlockType.INTEGRITY)
    assert bib is not None
    assert bytes.fromhex(corrected) in bib.data
    verify(bundle, bib, SecurityBlock.decode(bib.data), 0, HMAC_KEY)
    forged = bib.with_data(bib.data.replace(bytes.fromhex(corrected), bytes(32)))
    with pytest.raises(SecurityError) as caught:
        verify(bundle, forged, SecurityBlock.decode(forged.data), 0, HMAC_KEY)
    assert caught.value.reason is FailureReason.INTEGRITY
