"""Every kind of sound file gives the same samples, or an error; soundfile writes and decides."""

import io
import warnings

import numpy as np
import pytest
import soundfile

from gossamer.data.audio import QUIET, floats, is_sound, read, read_clips
from gossamer.errors import UserError

RATE = 16_000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)


def written(path, x=TONE, rate=RATE, **options):
    options = {"format": "WAV", "subtype": "PCM_16", **options}
    soundfile.write(path, x, rate, **options)
    return path


def chunk(name, body):
    return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def with_chunk(raw, extra, *, first):
    """A RIFF file with a chunk right after its head, or at its end."""
    body = raw[8:12] + (extra + raw[12:] if first else raw[12:] + extra)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("form", "subtype", "error"),
    [
        ("WAV", "FLOAT", 2**-16),
        ("WAV", "DOUBLE", 2**-16),
        ("WAVEX", "FLOAT", 2**-16),
        ("WAVEX", "DOUBLE", 2**-16),
        ("WAVEX", "PCM_24", 2**-16),
        ("WAV", "PCM_24", 2**-16),
        ("WAV", "PCM_32", 2**-16),
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "ULAW", 2**-5),
        ("WAV", "ALAW", 2**-5),
        ("RF64", "PCM_16", 2**-15),
        ("RF64", "FLOAT", 2**-16),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-16),
        ("AIFF", "FLOAT", 2**-16),
    ],
)
def test_every_width_has_its_scale(tmp_path, form, subtype, error):
    path = written(tmp_path / "a", format=form, subtype=subtype)
    np.testing.assert_allclose(floats(read(path)), TONE, atol=1.01 * error)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "FLAC", "AIFF"])
def test_big_and_little_endian_integers_are_read_to_the_bit(tmp_path, form):
    samples = np.round(TONE * 32768).astype(np.int16)
    path = written(tmp_path / "a", samples, format=form)
    np.testing.assert_array_equal(read(path), samples)
    if form == "WAV":
        rifx = written(tmp_path / "b", samples, endian="BIG")
        assert rifx.read_bytes()[:4] == b"RIFX"
        np.testing.assert_array_equal(read(rifx), samples)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("junk", [False, True])
def test_a_wav_written_to_a_pipe(tmp_path, subtype, size, junk):
    raw = written(tmp_path / "a.wav", subtype=subtype).read_bytes()
    if junk:
        raw = with_chunk(raw, chunk(b"LIST", b"INFOodd"), first=True)
    at = raw.index(b"data") + 4
    told = size.to_bytes(4, "little")
    (tmp_path / "b.wav").write_bytes(raw[:4] + told + raw[8:at] + told + raw[at + 4 :])
    got = floats(read(tmp_path / "b.wav"))
    np.testing.assert_allclose(got, TONE, atol=2**-15)


@pytest.mark.parametrize("name", [b"JUNK", b"LIST", b"bext", b"odd "])
@pytest.mark.parametrize("length", [0, 1, 27, 28])
@pytest.mark.parametrize("first", [True, False])
def test_other_chunks_are_passed_over(tmp_path, name, length, first):
    if (name, length) == (b"LIST", 0):
        length = 4
    raw = written(tmp_path / "a.wav").read_bytes()
    body = (b"INFO" + b"x" * 32)[:length]
    (tmp_path / "b.wav").write_bytes(with_chunk(raw, chunk(name, body), first=first))
    np.testing.assert_array_equal(read(tmp_path / "b.wav"), read(tmp_path / "a.wav"))


def test_six_channels_at_96_khz(tmp_path):
    at = np.arange(96_000) / 96_000
    sound = np.stack([0.1 * (i + 1) * np.sin(2 * np.pi * 440 * at) for i in range(6)], 1)
    got = floats(read(written(tmp_path / "a.wav", sound, 96_000, subtype="PCM_24")))
    assert got.shape == (16_000,)
    expected = 0.35 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(got[200:-200], expected[200:-200], atol=2e-3)


def test_channels_that_cancel_give_the_loudest(tmp_path):
    path = written(tmp_path / "a.wav", np.stack([TONE, -0.98 * TONE], 1))
    with pytest.warns(UserWarning, match=r"a\.wav: its channels cancel each other"):
        got = read(path)
    np.testing.assert_allclose(floats(got), TONE, atol=2**-15)
    one_of_eight = np.zeros((RATE, 8))
    one_of_eight[:, 5] = TONE
    got = read(written(tmp_path / "b.wav", one_of_eight))  # no reason to warn
    np.testing.assert_allclose(floats(got), TONE / 8, atol=2**-15)


def test_silence_is_warned_of_where_it_is_not_expected(tmp_path):
    path = written(tmp_path / "a.wav", np.full(RATE, 0.9 * QUIET))
    with pytest.warns(UserWarning, match="almost silent"):
        read(path)
    read(path, silence=True)
    read(written(tmp_path / "b.wav", np.full(RATE, 1.1 * QUIET)))


def test_floats_beyond_full_scale(tmp_path):
    with pytest.warns(UserWarning, match=r"reaches 1\.5 times full scale; clipped"):
        got = floats(read(written(tmp_path / "a.wav", 3 * TONE, subtype="FLOAT")))
    np.testing.assert_allclose(got, np.clip(3 * TONE, -1, 1), atol=2**-14)
    path = written(tmp_path / "b.wav", 20_000 * TONE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"b\.wav: its samples reach 10000, where full scale is 1"):
        read(path)
    for bad in (np.nan, np.inf):
        x = TONE.copy()
        x[7] = bad
        with pytest.raises(UserError, match="full scale is 1"):
            read(written(tmp_path / "c.wav", x, subtype="DOUBLE"))


@pytest.mark.parametrize("tail", [b"", chunk(b"LIST", b"INFO")])
def test_no_sound_and_impossible_rates(tmp_path, tail):
    raw = written(tmp_path / "a.wav", TONE[:0]).read_bytes()
    (tmp_path / "a.wav").write_bytes(with_chunk(raw, tail, first=False))
    with pytest.raises(UserError, match=r"a\.wav: holds no sound"):
        read(tmp_path / "a.wav")
    for rate in (7, 2**31 - 1):
        with pytest.raises(UserError, match=f"{rate} samples a second; resample it to 16000"):
            read(written(tmp_path / "b.wav", TONE[:9], rate))


def test_waveforms_of_unknown_scale_are_refused():
    for kind in ("i4", "u1", "i8", "?"):
        with pytest.raises(UserError, match="convert them to int16, or floats"):
            floats(np.zeros(3, kind))
    assert floats(np.array([0.5])).tolist() == [0.5]


def test_many_clips_are_warned_of_once(tmp_path):
    paths = [written(tmp_path / f"{n}.wav", np.zeros(9_000)) for n in range(3)]
    paths.append(written(tmp_path / "loud.wav", TONE))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clips = read_clips(paths)
    assert [str(w.message).partition(": ")[2] for w in caught] == [
        "is almost silent (below -60 dB of full scale) (and 2 more files)"
    ]
    assert clips.shape == (4, RATE)
    np.testing.assert_array_equal(clips[3], read(paths[3]))
    read_clips(paths, silent=set(paths))


def test_names_of_sound_files(tmp_path):
    names = ["a.wav", "b.FLAC", "._a.wav", ".a.wav", "c.txt", "wav"]
    assert [name for name in names if is_sound(tmp_path / name)] == ["a.wav", "b.FLAC"]


def test_a_truncated_file_gives_what_it_holds(tmp_path):
    raw = written(tmp_path / "a.wav").read_bytes()
    (tmp_path / "b.wav").write_bytes(raw[:-1001])
    np.testing.assert_array_equal(read(tmp_path / "b.wav"), read(tmp_path / "a.wav")[: RATE - 501])
    assert soundfile.info(io.BytesIO(raw)).frames == RATE
