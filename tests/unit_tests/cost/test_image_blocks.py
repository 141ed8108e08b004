"""Images are recognised in every form that LangChain and the providers use, and measured without being decoded."""

import base64
import struct

import pytest

from langchain_runtime.cost.image_blocks import image_of, without_images


def encoded(data):
    return base64.b64encode(data).decode()


def png(width, height):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x06\x00\x00\x00" * 20


def jpeg(width, height, *, metadata=b""):
    exif = b"\xff\xe1" + struct.pack(">H", len(metadata) + 2) + metadata
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x00" * 9
    return b"\xff\xd8" + exif + b"\xff\xc4\x00\x04ab" + frame + b"\xff\xda" + b"\x00" * 40


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00" * 20


def webp(form, body):
    return b"RIFF\x00\x00\x00\x00WEBP" + form + struct.pack("<I", len(body)) + body + b"\x00" * 20


def webp_lossy(width, height):
    return webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height))


def webp_lossless(width, height):
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def webp_extended(width, height):
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", b"\x00\x00\x00\x00" + sides)


MAKERS = [png, jpeg, gif, webp_lossy, webp_lossless, webp_extended]


def size_of(data, *, kind="image/png"):
    return image_of({"type": "image", "base64": encoded(data), "mime_type": kind}).size


@pytest.mark.parametrize("make", MAKERS)
def test_the_size_stands_in_the_head(make):
    assert size_of(make(1_021, 613)) == (1_021, 613)


@pytest.mark.parametrize(
    "head",
    [png(30, 20)[:20], gif(30, 20)[:8], jpeg(30, 20)[:14], webp_lossless(30, 20)[:24], b"\xff\xd8\xff"],
    ids=["png", "gif", "jpeg", "webp", "start"],
)
def test_a_head_that_is_cut_off_has_no_size(head):
    assert size_of(head) is None


def test_the_size_of_a_preview_in_the_metadata_is_not_taken():
    assert size_of(jpeg(4_000, 3_000, metadata=b"Exif\x00\x00" + jpeg(160, 120))) == (4_000, 3_000)


@pytest.mark.parametrize(
    "data", [b"BM" + b"\x00" * 40, b"", png(0, 10), jpeg(9, 9, metadata=b"x" * 60_000)], ids=["bmp", "", "0", "far"]
)
def test_what_is_not_understood_has_no_size(data):
    assert size_of(data) is None


def test_what_is_not_base64_has_no_size():
    assert image_of({"type": "image", "base64": "abcde", "mime_type": "image/png"}).size is None


PNG = encoded(png(30, 20))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": PNG, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
        {"type": "image", "url": f"data:image/png;base64,{PNG}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
    ],
)
def test_an_image_that_is_sent_along_is_recognised_and_measured(block):
    image = image_of(block)
    assert image.is_image
    assert image.media_type == "image/png"
    assert image.size == (30, 20)


@pytest.mark.parametrize(
    ("block", "source"),
    [
        ({"type": "image", "url": "https://example.com/a.png"}, "https://example.com/a.png"),
        ({"type": "image", "source_type": "url", "url": "https://example.com/a.png"}, "https://example.com/a.png"),
        ({"type": "image", "file_id": "file_1"}, "file_1"),
        ({"type": "image", "source_type": "id", "id": "file_1"}, "file_1"),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a"}}, "https://example.com/a"),
        ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "file_1"),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "https://example.com/a.png"),
        ({"type": "input_image", "file_id": "file_1"}, "file_1"),
        ({"type": "image"}, ""),
    ],
)
def test_an_image_elsewhere_is_recognised_and_has_no_size(block, source):
    image = image_of(block)
    assert image.source == source
    assert image.is_image
    assert image.size is None


@pytest.mark.parametrize("kind", ["text", "file", "audio", "video", "document", None])
def test_other_blocks_are_no_images(kind):
    assert image_of({"type": kind, "url": "https://example.com/a.png"}) is None


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,aGVsbG8="}},
        {"type": "image", "base64": "aGVsbG8=", "mime_type": "application/pdf"},
        {"type": "image", "source": {"type": "base64", "media_type": "video/mp4", "data": "aGVsbG8="}},
    ],
)
def test_what_says_that_it_is_something_else_is_no_image(block):
    assert not image_of(block).is_image


def test_a_detail_counts_where_it_is_passed_on():
    address = {"url": "https://example.com/a.png", "detail": "low"}
    assert image_of({"type": "image_url", "image_url": address}).detail == "low"
    assert (
        image_of({"type": "input_image", "image_url": "https://example.com/a.png", "detail": "high"}).detail == "high"
    )
    assert image_of({"type": "image", **address}).detail == ""
    assert image_of({"type": "image_url", "image_url": {**address, "detail": 1}}).detail == ""


def test_images_are_taken_out_of_content_and_of_results_in_it():
    image, text = {"type": "image", "url": "https://example.com/a.png"}, {"type": "text", "text": "look"}
    content = [text, image, "look", {"type": "tool_result", "content": [image, text, "x"], "is_error": False}]
    kept, images = without_images(content)
    assert kept == [text, "look", {"type": "tool_result", "content": [text, "x"], "is_error": False}]
    assert len(images) == 2


def test_content_without_images_stays_the_same_object():
    content = [{"type": "text", "text": "look"}, {"type": "tool_use", "input": {"content": {"type": "image"}}}]
    assert without_images(content) == (content, ())
    assert without_images(content)[0] is content
