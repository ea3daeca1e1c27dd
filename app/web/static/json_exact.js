/* JSON as it is written: numbers that JavaScript would round (64-bit ids, decimals) keep their digits. */

/** A number that a JavaScript number would change. */
export class Numeral {
  constructor(text) {
    this.text = text;
  }

  /** What a page shows of it: a number in an answer of ours may be one of these too (`6.0`). */
  toString() {
    return this.text;
  }
}

const TOKEN = /[ \t\n\r]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null)|([[\]{},:]))/y;
const WORDS = { true: true, false: false, null: null };

/** Read JSON. Objects have no prototype, so that any key is only a key. Throws SyntaxError. */
export function parse(text) {
  const reader = new Reader(text);
  const value = reader.value();
  const rest = text.slice(reader.place).trim();
  if (rest) throw new SyntaxError(`something follows the JSON at character ${reader.place + 1}`);
  return value;
}

class Reader {
  constructor(text) {
    this.text = text;
    this.place = 0;
  }

  next() {
    TOKEN.lastIndex = this.place;
    const found = TOKEN.exec(this.text);
    if (!found) throw new SyntaxError(`this is no JSON at character ${this.place + 1}`);
    this.place = TOKEN.lastIndex;
    return found;
  }

  value(token = this.next()) {
    const [, string, number, word, mark] = token;
    if (string !== undefined) return JSON.parse(string);
    if (number !== undefined) return String(Number(number)) === number ? Number(number) : new Numeral(number);
    if (word !== undefined) return WORDS[word];
    if (mark === "[") return this.list();
    if (mark === "{") return this.object();
    throw new SyntaxError(`${mark} is not expected at character ${this.place}`);
  }

  list() {
    const items = [];
    for (let token = this.next(); ; token = this.next()) {
      if (token[4] === "]" && !items.length) return items;
      items.push(this.value(token));
      if (this.mark(",", "]") === "]") return items;
    }
  }

  object() {
    const members = Object.create(null);
    for (let token = this.next(), first = true; ; token = this.next(), first = false) {
      if (token[4] === "}" && first) return members;
      if (token[1] === undefined) throw new SyntaxError(`a key in quotes is expected at character ${this.place}`);
      this.mark(":");
      members[JSON.parse(token[1])] = this.value();
      if (this.mark(",", "}") === "}") return members;
    }
  }

  mark(...expected) {
    const found = this.next()[4];
    if (!expected.includes(found)) {
      throw new SyntaxError(`${expected.join(" or ")} is expected at character ${this.place}`);
    }
    return found;
  }
}

/** Write JSON, two spaces deeper for each level; short lists and objects of plain values stay on one line. */
export function write(value, pad = "") {
  if (value instanceof Numeral) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  const parts = isList
    ? value.map((one) => write(one, `${pad}  `))
    : Object.keys(value).map((key) => `${JSON.stringify(key)}: ${write(value[key], `${pad}  `)}`);
  if (!parts.length) return open + close;
  const line = open + parts.join(", ") + close;
  const inner = isList ? value : Object.values(value);
  const flat = inner.every((one) => one === null || typeof one !== "object" || one instanceof Numeral);
  if (isList && flat && line.length <= 60) return line;
  return `${open}\n${parts.map((part) => `${pad}  ${part}`).join(",\n")}\n${pad}${close}`;
}

/** Write JSON in one line, without spaces. */
export function writeShort(value) {
  if (value instanceof Numeral) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(writeShort).join(",")}]`;
  return `{${Object.keys(value).map((key) => `${JSON.stringify(key)}:${writeShort(value[key])}`).join(",")}}`;
}
