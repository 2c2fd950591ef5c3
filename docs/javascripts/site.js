/* Wide tables scroll sideways: by keyboard, too. */
document$.subscribe(() => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap")) {
    wrap.tabIndex = 0;
    wrap.setAttribute("role", "region");
    wrap.setAttribute("aria-label", "Table");
  }
});

/* Options and paths in running text break between words, not behind a hyphen: "--policy" is one word. A word that is
   wider than a telephone may still break anywhere. */
document$.subscribe(() => {
  for (const code of document.querySelectorAll(".md-typeset :not(pre) > code")) {
    if (code.children.length || !code.textContent.includes("-")) continue;
    const words = code.textContent.split(/(\s+)/).map((word) => {
      if (!word.includes("-") || word.length > 32) return word;
      const whole = document.createElement("span");
      whole.className = "whole-word";
      whole.textContent = word;
      return whole;
    });
    code.replaceChildren(...words);
  }
});
