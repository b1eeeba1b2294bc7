// Shows one prompt at a time below its tree. Without this script the page shows all of them, and links still lead there.
"use strict";
for (const prompts of document.querySelectorAll(".prompts")) {
  const run = prompts.closest("section");
  const articles = [...prompts.querySelectorAll(".prompt")];
  const links = [...run.querySelectorAll("[data-prompt]")];
  const controls = prompts.querySelector(".controls");
  const button = controls.querySelector("[data-all]");
  const whole = button.textContent;
  let all = false;
  let selected = prompts.dataset.selected;

  function draw() {
    for (const article of articles) article.hidden = !all && article.id !== selected;
    for (const link of links) {
      if (!link.classList.contains("node")) continue;
      if (link.dataset.prompt === selected) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    button.textContent = all ? "Show one prompt" : whole;
  }
  for (const link of links) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      selected = link.dataset.prompt;
      draw();
      const article = document.getElementById(selected);
      article.focus({ preventScroll: true });
      article.scrollIntoView({ block: "nearest" });
    });
  }
  button.addEventListener("click", () => {
    all = !all;
    draw();
  });
  controls.hidden = articles.length < 2;
  draw();
  const tree = run.querySelector(".tree");
  const dot = run.querySelector("[aria-current] circle");
  if (tree && dot) {
    tree.scrollLeft = dot.cx.baseVal.value - tree.clientWidth / 2;
    tree.scrollTop = dot.cy.baseVal.value - tree.clientHeight / 2;
  }
}
