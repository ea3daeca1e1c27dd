/* What differs between two texts, line by line. */

import { count, make } from "./elements.js";

// A table of the longest common part is made of what lies between the common start and end; past this it is not.
const CELLS = 4_000_000;
const AROUND = 3;

/** Return [mark, line] for each line: " " is in both, "-" only before, "+" only after. */
export function differences(before, after) {
  const [old, now] = [toLines(before), toLines(after)];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start += 1;
  let [oldEnd, nowEnd] = [old.length, now.length];
  while (oldEnd > start && nowEnd > start && old[oldEnd - 1] === now[nowEnd - 1]) {
    oldEnd -= 1;
    nowEnd -= 1;
  }
  const same = (lines) => lines.map((line) => [" ", line]);
  return [
    ...same(old.slice(0, start)),
    ...middle(old.slice(start, oldEnd), now.slice(start, nowEnd)),
    ...same(old.slice(oldEnd)),
  ];
}

function toLines(text) {
  return text === "" ? [] : text.replace(/\n$/, "").split("\n");
}

function middle(old, now) {
  const width = now.length + 1;
  if ((old.length + 1) * width > CELLS) return [...old.map((line) => ["-", line]), ...now.map((line) => ["+", line])];
  const common = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      const place = i * width + j;
      common[place] =
        old[i] === now[j] ? common[place + width + 1] + 1 : Math.max(common[place + width], common[place + 1]);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      found.push([" ", old[i]]);
      i += 1;
      j += 1;
    } else if (j >= now.length || (i < old.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      found.push(["-", old[i]]);
      i += 1;
    } else {
      found.push(["+", now[j]]);
      j += 1;
    }
  }
  return found;
}

/** Show what differs. `label` names it for a screen reader; long parts that are the same are folded. */
export function diffView(before, after, label) {
  const found = differences(before, after);
  const changed = found.filter(([mark]) => mark !== " ").length;
  if (!changed) return make("p", { class: "hint" }, "No differences.");
  const near = new Set();
  found.forEach(([mark], index) => {
    if (mark === " ") return;
    for (let other = index - AROUND; other <= index + AROUND; other += 1) near.add(other);
  });
  const lines = [];
  let folded = 0;
  const unfold = () => {
    if (folded) lines.push(make("span", { class: "diff-fold" }, `${count(folded, "line")} the same`));
    folded = 0;
  };
  found.forEach(([mark, line], index) => {
    if (!near.has(index)) {
      folded += 1;
      return;
    }
    unfold();
    const name = { " ": "span", "-": "del", "+": "ins" }[mark];
    lines.push(make(name, { class: "diff-line" }, `${mark} ${line}\n`));
  });
  unfold();
  return make("pre", { class: "diff", tabindex: "0", role: "group", "aria-label": label }, lines);
}
