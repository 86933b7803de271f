// Files that are chosen, or dropped anywhere on the page. The module that prices them is loaded for the first of them.

import { byId } from "./elements.js";

/** Price each file; `query` gives that of its batches. */
export function takeFiles(query) {
  const input = byId("file").querySelector("input");
  const isFile = (event) => event.dataTransfer.types.includes("Files");
  const mark = (isOver) => document.body.classList.toggle("dropping", isOver);
  const take = async (file) => {
    const { priceFile } = await import("./file.js");
    await priceFile(file, query());
  };
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
  document.addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    mark(false);
    take(event.dataTransfer.files[0]);
  });
}
