// Log-mel features as gossamer.data.features.LogMel makes them, with its default settings.

export const RATE = 16000;
const SIZE = 1024, HOP = 512, BANDS = 32, LOW = 20, HIGH = 8000, FLOOR = 1e-8;

const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const hertz = (m) => 700 * (10 ** (m / 2595) - 1);

const hann = Float64Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const sum = hann.reduce((a, b) => a + b);
const window_ = hann.map((w) => (2 * w) / sum);
const edges = Array.from({ length: BANDS + 2 }, (_, i) =>
  hertz(mel(LOW) + ((mel(HIGH) - mel(LOW)) * i) / (BANDS + 1)));
const filters = Array.from({ length: BANDS }, (_, band) =>
  Float64Array.from({ length: SIZE / 2 + 1 }, (_, bin) => {
    const f = (bin * RATE) / SIZE, [a, b, c] = edges.slice(band, band + 3);
    return Math.max(0, Math.min((f - a) / (b - a), (c - f) / (c - b)));
  }));

/** In place, by halves; the length is a power of two. */
function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let half = 1; half < n; half *= 2) {
    for (let k = 0; k < half; k++) {
      const c = Math.cos((-Math.PI * k) / half), s = Math.sin((-Math.PI * k) / half);
      for (let i = k; i < n; i += 2 * half) {
        const j = i + half, x = re[j] * c - im[j] * s, y = re[j] * s + im[j] * c;
        [re[j], im[j], re[i], im[i]] = [re[i] - x, im[i] - y, re[i] + x, im[i] + y];
      }
    }
  }
}

/**
 * @param {Float32Array} sound samples at 16 kHz in [-1, 1]
 * @returns {Float32Array} decibels, bands x frames; 32 x 32 for one second
 */
export function logMel(sound) {
  const frames = 1 + Math.floor(sound.length / HOP);
  const out = new Float32Array(BANDS * frames);
  const re = new Float64Array(SIZE), im = new Float64Array(SIZE);
  for (let t = 0; t < frames; t++) {
    im.fill(0);
    for (let i = 0; i < SIZE; i++) re[i] = (sound[t * HOP + i - SIZE / 2] ?? 0) * window_[i];
    fft(re, im);
    for (let band = 0; band < BANDS; band++) {
      let power = FLOOR;
      for (let bin = 0; bin <= SIZE / 2; bin++) {
        power += filters[band][bin] * (re[bin] ** 2 + im[bin] ** 2);
      }
      out[band * frames + t] = 10 * Math.log10(power);
    }
  }
  return out;
}

/** Why features described in a model's file cannot be made here; empty if they can. */
export function refused(features) {
  const own = { kind: "log_mel", rate: RATE, n_fft: SIZE, hop: HOP, bands: BANDS, low: LOW, high: HIGH, floor: -80 };
  for (const [name, value] of Object.entries(own)) {
    if (name in features && features[name] !== value) {
      return `The network takes features with ${name} = ${features[name]}; this page makes ${value}.`;
    }
  }
  return features.samples <= RATE ? "" : "The network takes more than a second of sound.";
}
