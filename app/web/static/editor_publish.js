/* Publishing: what it would change among the last 1,000 calls is shown first, and then asked. */

import { askPerson } from "./dialog.js";
import { diffView } from "./editor_diff.js";
import { count, fill, make } from "./elements.js";
import { write } from "./json_exact.js";

/** Ask whether to publish; returns whether to. `impact(signal)` gives the report. */
export function askToPublish({ name, isLive, impact, liveText, text }) {
  return askPerson({
    title: `Publish ${name}?`,
    wide: true,
    choices: [
      { value: "cancel", label: "Not now" },
      { value: "publish", label: "Publish", kind: "primary" },
    ],
    show: async ({ body, choices, signal }) => {
      choices.publish.disabled = true;
      fill(body, make("p", { class: "waiting", role: "status" }, "Running the draft on the last 1,000 calls…"));
      try {
        const report = await impact(signal);
        fill(body, showImpact(report, isLive), textPart(liveText, text));
        const isHarmful = report.newly_failing.length || report.no_longer_mapped.length;
        if (isHarmful) choices.publish.textContent = "Publish anyway";
        choices.publish.disabled = false;
      } catch (error) {
        if (error.name === "AbortError") return;
        const isWrong = error.code === "transform_invalid";
        const lead = isWrong ? "This cannot be published yet: " : "The effect of publishing could not be determined: ";
        fill(body, make("p", { class: "alert", role: "alert" }, lead + error.message), textPart(liveText, text));
        choices.publish.disabled = isWrong;
        if (!isWrong) choices.publish.textContent = "Publish without a preview";
      }
    },
  });
}

/** Ask whether to unpublish; returns whether to. A transform of a file ends with the file: then it is said how. */
export async function askToUnpublish({ name, isOfFile }) {
  const sentences = isOfFile
    ? [
        `The live version comes from the file ${name}.yaml: delete that file in the transforms folder.`,
        "The transform stays live until it is then unpublished here.",
      ]
    : [
        "It goes out of use on all nodes within two seconds. Its calls are then taken by the next transform that matches",
        "them, or by _default; what none takes is ignored as no_transform. Stored calls and events stay as they are, and",
        "the text stays in the history.",
      ];
  const cancel = { value: "cancel", label: isOfFile ? "Close" : "Cancel", kind: isOfFile ? "primary" : null };
  const said = await askPerson({
    title: isOfFile ? `${name} comes from a file` : `Unpublish ${name}?`,
    choices: isOfFile ? [cancel] : [cancel, { value: "unpublish", label: "Unpublish", kind: "danger" }],
    show: ({ body }) => fill(body, make("p", {}, sentences.join(" "))),
  });
  return said === "unpublish";
}

function textPart(liveText, text) {
  if (liveText === null) return null;
  const changed = diffView(liveText, text, "From the live text to the draft");
  return make("details", {}, make("summary", {}, "What changes in the text"), changed);
}

const total = (samples) => samples.reduce((sum, one) => sum + one.count, 0);

function showImpact(report, isLive) {
  const kinds = [
    ["same", "Same", report.same, null],
    ["changed", "Changed", report.changed, report.changes],
    ["failing", "Newly failing", total(report.newly_failing), report.newly_failing],
    ["mapped", "Newly mapped", total(report.newly_mapped), report.newly_mapped],
    ["unmapped", "No longer mapped", total(report.no_longer_mapped), report.no_longer_mapped],
    ["otherwise", "Other reason", total(report.otherwise), report.otherwise],
  ].filter(([kind, , number]) => number || !["unmapped", "otherwise"].includes(kind));
  const figures = kinds.map(([kind, label, number]) =>
    make(
      "div",
      { class: `impact-${kind}${number ? "" : " none"}` },
      make("dt", {}, label),
      make("dd", {}, number.toLocaleString("en")),
    ),
  );
  const samples = kinds
    .filter(([, , number, found]) => number && found)
    .map(([kind, label, , found]) =>
      make("section", {}, make("h3", {}, label), found.map((one, index) => sampleView(kind, one, index === 0))),
    );
  const seen = report.removed ? `; the bytes of ${report.removed.toLocaleString("en")} were removed` : "";
  const looked = `Of the last ${count(report.calls, "call")}, ${report.concerned.toLocaleString("en")} concern it`;
  return [
    make("p", {}, sentenceOf(report, isLive)),
    make("dl", { class: "figures impact" }, figures),
    make("p", { class: "hint" }, `${looked}${seen}. Calls that are already stored do not change.`),
    samples,
  ];
}

function sentenceOf(report, isLive) {
  const failing = total(report.newly_failing);
  if (failing) return `Careful: ${count(failing, "call")} would be rejected that were not rejected before.`;
  if (!report.concerned) return "None of the last calls concerns it; future calls may.";
  if (!report.changed && report.same === report.concerned) return "Nothing would change for any of them.";
  return `These are the results the draft would have given${isLive ? ", beside the live version" : ""}.`;
}

function sampleView(kind, sample, isOpen) {
  const link = make("a", { href: `/calls/${encodeURIComponent(sample.call_id)}`, target: "_blank" }, "one of them");
  const summary = make("summary", {}, make("code", {}, sample.kind), ` · ${count(sample.count, "call")}`);
  const told = sample.detail ? [`${sample.detail} (`, link, ")"] : ["See ", link, "."];
  const inside = [make("p", { class: "hint" }, told)];
  const [before, after] = [sample.before, sample.after].map((value) => (value === null ? "" : write(value)));
  if (before || after) inside.push(diffView(before, after, "From the live version to the draft"));
  return make("details", { class: `sample ${kind}`, open: isOpen }, summary, inside);
}
