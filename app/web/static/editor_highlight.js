/* Colours for the text of a transform: YAML, and JMESPath where a value is an expression.

   It is read line by line, and what a line needs to know of those above it is in a small state: a change of one line
   costs that line. It colours and completes; what is right or wrong only the service says. */

const KEY = /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#'"[\]{},&*!|>%@`-][^:#]*?|-[^\s:#][^:#]*?)(\s*:)(?=\s|$)/;
const PLAIN = /^(?:true|false|null|~|[-+]?[0-9][0-9_.eE+-]*)$/;
const FLOW = /("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')(\s*:)?|([^\s"'[\]{},:#][^[\]{},:#]*?)(\s*:)(?=\s|$)|([[\]{},:])|(\s#.*$)|([^\s[\]{},:"'][^[\]{},:]*)/g;
const EXPRESSION =
  /('(?:[^'\\]|\\.)*'?)|(`(?:[^`\\]|\\.)*`?)|("(?:[^"\\]|\\.)*"?)|([A-Za-z_][A-Za-z0-9_]*)(?=\()|([A-Za-z_][A-Za-z0-9_]*)|(-?[0-9]+)|(\|\||&&|[=!<>]=?|[&|!*@.,:()[\]{}?-])/g;
const EXPRESSION_KINDS = ["t-string", "t-literal", "t-name", "t-function", "t-name", "t-literal", "t-mark"];

const HOLD_EXPRESSIONS = new Set(["when", "each", "event"]);
const HOLD_NAMES = new Set(["const", "drop", "rename"]);

/** What is known before the first line. `section`: the key at the margin. `block`: indent of the key of a | text. */
export const START = { section: "", block: -1, inner: "" };

/** Return { parts: [text, kind] of a line, after: the state for the next, expression: where one may begin, or -1 }. */
export function readLine(line, state) {
  const indent = line.length - line.trimStart().length;
  if (state.block >= 0 && (indent > state.block || !line.trim())) {
    const expression = holdsExpressions(state.section, state.inner);
    const parts = expression ? toExpression(line) : [[line, "t-string"]];
    return { parts, after: state, expression: expression ? indent : -1 };
  }
  const parts = [];
  let rest = line;
  const take = (length, kind) => {
    if (length) parts.push([rest.slice(0, length), kind]);
    rest = rest.slice(length);
  };
  take(indent, "");
  for (let dash = /^-(?:\s+|$)/.exec(rest); dash; dash = /^-(?:\s+|$)/.exec(rest)) take(dash[0].length, "t-mark");
  if (rest.startsWith("#")) {
    take(rest.length, "t-comment");
    return { parts, after: { ...state, block: -1 }, expression: -1 };
  }
  const after = { section: state.section, block: -1, inner: state.inner };
  const column = line.length - rest.length;
  const key = KEY.exec(rest);
  if (key) {
    const name = key[1].replace(/^["']|["']$/g, "");
    if (indent === 0 && column === 0) after.section = name;
    after.inner = name;
    take(key[1].length, "t-key");
    take(key[2].length, "t-mark");
    take(rest.length - rest.trimStart().length, "");
  }
  const start = line.length - rest.length;
  const expression = holdsExpressions(after.section, after.inner) && (key !== null || after.section !== "");
  if (/^[|>][-+0-9]*\s*(?:#.*)?$/.test(rest)) {
    after.block = column > indent ? column : indent;
    take(rest.length, "t-mark");
  } else {
    parts.push(...toValue(rest, expression));
  }
  return { parts, after, expression: expression ? start : -1 };
}

function holdsExpressions(section, inner) {
  return HOLD_EXPRESSIONS.has(section) && !HOLD_NAMES.has(inner);
}

function toValue(text, expression) {
  const quoted = /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')/.exec(text);
  if (quoted) {
    const [body, rest] = [quoted[0], text.slice(quoted[0].length)];
    const inside = expression
      ? [[body[0], "t-mark"], ...toExpression(body.slice(1, -1)), [body[0], "t-mark"]]
      : [[body, "t-string"]];
    return [...inside, ...withComment(rest, (left) => [[left, ""]])];
  }
  if (/^[[{]/.test(text)) return toFlow(text);
  return withComment(text, (left) => {
    if (expression) return toExpression(left);
    return [[left, PLAIN.test(left.trim()) ? "t-literal" : "t-plain"]];
  });
}

/** A comment begins at " #" even within a JMESPath text in quotes: so says YAML. */
function withComment(text, read) {
  const place = text.search(/(?:^|\s)#/);
  if (place < 0) return text ? read(text) : [];
  const before = text.slice(0, place);
  return [...(before ? read(before) : []), [text.slice(place), "t-comment"]];
}

function toFlow(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(FLOW)) {
    parts.push([text.slice(end, found.index), ""]);
    end = found.index + found[0].length;
    const [, quoted, colon, key, keyColon, mark, comment, plain] = found;
    if (quoted) parts.push([quoted, colon ? "t-key" : "t-string"], [colon ?? "", "t-mark"]);
    else if (key) parts.push([key, "t-key"], [keyColon, "t-mark"]);
    else if (mark) parts.push([mark, "t-mark"]);
    else if (comment) parts.push([comment, "t-comment"]);
    else parts.push([plain, PLAIN.test(plain.trim()) ? "t-literal" : "t-plain"]);
  }
  parts.push([text.slice(end), ""]);
  return parts.filter(([part]) => part);
}

function toExpression(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(EXPRESSION)) {
    parts.push([text.slice(end, found.index), ""]);
    end = found.index + found[0].length;
    parts.push([found[0], EXPRESSION_KINDS[found.slice(1).findIndex((group) => group !== undefined)]]);
  }
  parts.push([text.slice(end), ""]);
  return parts.filter(([part]) => part);
}
