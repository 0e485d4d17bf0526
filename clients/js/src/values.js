// Values of Python that JavaScript has no exact type for. All are immutable; `toString` and JSON give their text.

const pad = (number, width = 2) => String(number).padStart(width, "0");

function fraction(microsecond) {
  return microsecond ? `.${pad(microsecond, 6)}` : "";
}

class Value {
  toJSON() {
    return this.toString();
  }
}

/** A time zone: UTC, a fixed offset (perhaps with a name), or an IANA key. */
export class Zone {
  /**
   * @param {"utc" | "offset" | "key"} kind
   * @param {number | null} offset in seconds, with a fraction; null for a key
   * @param {string | null} name the name of an offset, or the key
   */
  constructor(kind, offset, name) {
    this.kind = kind;
    this.offset = offset;
    this.name = name;
    Object.freeze(this);
  }

  /** As in `2026-01-02T09:30:00-05:00` or `...[Europe/Berlin]`. */
  toString() {
    if (this.kind === "key") return `[${this.name}]`;
    const microseconds = Math.round(Math.abs(this.offset) * 1e6);
    const seconds = Math.floor(microseconds / 1e6);
    const rest = fraction(microseconds % 1e6);
    const text = `${pad(Math.floor(seconds / 3600))}:${pad(Math.floor(seconds / 60) % 60)}`;
    const tail = seconds % 60 || rest ? `:${pad(seconds % 60)}${rest}` : "";
    return `${this.offset < 0 ? "-" : "+"}${text}${tail}`;
  }
}

/** A date of the calendar, year 1 to 9999. */
export class PlainDate extends Value {
  constructor(year, month, day) {
    super();
    Object.freeze(Object.assign(this, { year, month, day }));
  }

  toString() {
    return `${pad(this.year, 4)}-${pad(this.month)}-${pad(this.day)}`;
  }
}

/** A time of the day; `zone` is null without one. */
export class PlainTime extends Value {
  constructor(hour, minute, second, microsecond, fold, zone) {
    super();
    Object.freeze(Object.assign(this, { hour, minute, second, microsecond, fold, zone }));
  }

  toString() {
    const { hour, minute, second, microsecond, zone } = this;
    return `${pad(hour)}:${pad(minute)}:${pad(second)}${fraction(microsecond)}${zone ?? ""}`;
  }
}

/** A date and a time; `zone` is null without one. `fold` is 1 for the second of two equal times. */
export class DateTime extends Value {
  constructor(year, month, day, hour, minute, second, microsecond, fold, zone) {
    super();
    Object.freeze(Object.assign(this, { year, month, day, hour, minute, second, microsecond, fold, zone }));
  }

  toString() {
    const { year, month, day, hour, minute, second, microsecond, fold, zone } = this;
    const date = new PlainDate(year, month, day);
    return `${date}T${new PlainTime(hour, minute, second, microsecond, fold, zone)}`;
  }

  /** Milliseconds since 1970, microseconds as a fraction. Throws a RangeError without a zone of known offset. */
  toMilliseconds() {
    const { year, month, day, hour, minute, second, microsecond, zone } = this;
    if (zone?.offset == null) {
      throw new RangeError(`${this} has no offset from UTC; read its fields, or give it to Temporal`);
    }
    const date = new Date(0);
    date.setUTCFullYear(year, month - 1, day);
    date.setUTCHours(hour, minute, second);
    return date.getTime() + microsecond / 1000 - zone.offset * 1000;
  }

  /** The millisecond that it is in. Throws as `toMilliseconds` does. */
  toDate() {
    return new Date(Math.floor(this.toMilliseconds()));
  }
}

/** A span of time, as Python's timedelta: only `days` may be negative. */
export class Duration extends Value {
  constructor(days, seconds, microseconds) {
    super();
    Object.freeze(Object.assign(this, { days, seconds, microseconds }));
  }

  toMilliseconds() {
    return (this.days * 86400 + this.seconds) * 1000 + this.microseconds / 1000;
  }

  /** In seconds, as ISO 8601: `PT1.5S`, `-PT60S`. */
  toString() {
    const all = (BigInt(this.days) * 86400n + BigInt(this.seconds)) * 1000000n + BigInt(this.microseconds);
    const size = all < 0n ? -all : all;
    return `${all < 0n ? "-" : ""}PT${size / 1000000n}${fraction(Number(size % 1000000n))}S`;
  }
}

/** A decimal number with its exact digits: `1.50` is not `1.5`. */
export class Decimal extends Value {
  /**
   * @param {"finite" | "infinity" | "nan" | "snan"} kind
   * @param {boolean} negative
   * @param {string} digits of the coefficient; of a NaN, its payload
   * @param {bigint} exponent of ten; 0 unless finite
   */
  constructor(kind, negative, digits, exponent) {
    super();
    Object.freeze(Object.assign(this, { kind, negative, digits, exponent }));
  }

  /** The nearest double. */
  toNumber() {
    const sign = this.negative ? "-" : "";
    if (this.kind === "finite") return Number(`${sign}${this.digits}e${this.exponent}`);
    return this.kind === "infinity" ? Number(`${sign}Infinity`) : NaN;
  }

  /** As Python writes it. */
  toString() {
    const { kind, digits } = this;
    const sign = this.negative ? "-" : "";
    if (kind !== "finite") return sign + { infinity: "Infinity", nan: "NaN", snan: "sNaN" }[kind] + digits;
    const { exponent } = this;
    const adjusted = exponent + BigInt(digits.length - 1);
    if (exponent <= 0n && adjusted >= -6n) {
      const decimals = Number(-exponent);
      if (!decimals) return sign + digits;
      const all = digits.padStart(decimals + 1, "0");
      return `${sign}${all.slice(0, -decimals)}.${all.slice(-decimals)}`;
    }
    const mantissa = digits.length > 1 ? `${digits[0]}.${digits.slice(1)}` : digits;
    return `${sign}${mantissa}E${adjusted < 0n ? "" : "+"}${adjusted}`;
  }
}

export class Uuid extends Value {
  /** @param {string} text 36 characters, lower case */
  constructor(text) {
    super();
    this.text = text;
    Object.freeze(this);
  }

  toString() {
    return this.text;
  }
}
