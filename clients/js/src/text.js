// Strings of frames: UTF-8 in which lone surrogates are three bytes each.

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** @param {Uint8Array} bytes */
export function decodeText(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    return decodeWithSurrogates(bytes);
  }
}

/** @param {Uint8Array} bytes as a frame has them, which the core has checked */
function decodeWithSurrogates(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at];
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    let code = length === 1 ? first : first & (0x7f >> length);
    for (let i = 1; i < length; i++) code = (code << 6) | (bytes[at + i] & 0x3f);
    text += String.fromCodePoint(code);
    at += length;
  }
  return text;
}

/** @param {string} text */
export function encodeText(text) {
  const plain = encoder.encode(text);
  // The encoder writes U+FFFD for a lone surrogate.
  if (!/\p{Surrogate}/u.test(text)) return plain;
  const parts = [];
  for (const character of text) {
    const code = character.codePointAt(0);
    const lone = code >= 0xd800 && code <= 0xdfff;
    const bytes = [0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)];
    parts.push(...(lone ? bytes : encoder.encode(character)));
  }
  return Uint8Array.from(parts);
}

/** A digest as entries in Redis have it. */
export function hexadecimal(digest) {
  return digest.toString(16).padStart(16, "0");
}
