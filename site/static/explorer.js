"use strict";
// The map explorer. All numbers and maps were made when the site was built (site/explorer.py) and lie
// in explorer-data.js; this file only shows them. It loads nothing from elsewhere.

(function () {
  const root = document.getElementById("explorer");
  const data = window.EXPLORER;
  const sets = data ? data.datasets.filter((set) => set.networks.length) : [];
  if (!sets.length) return; // the page says what is missing

  const BASE = root.dataset.static; // the folder of the sprites
  const state = { set: 0, network: 0, place: 0, picture: 0, over: false };
  const images = {}; // address → picture, loaded once

  // ---- small helpers -------------------------------------------------------------------------
  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  const percent = (share) => {
    const value = 100 * share;
    if (value > 0 && value < 1) return "under 1 %";
    if (value < 100 && value > 99) return "over 99 %";
    return `${Math.round(value)} %`;
  };

  function best(answers) {
    return answers.indexOf(Math.max(...answers));
  }

  function sprite(address) {
    if (!images[address]) {
      images[address] = new Image();
      images[address].onload = draw;
      images[address].src = BASE + address;
    }
    return images[address];
  }

  // Draw one tile of a sprite; what is not loaded yet is drawn when it is.
  function tile(canvas, address, row, column, alpha) {
    const [height, width] = sets[state.set].size;
    const picture = sprite(address);
    if (!picture.complete || !picture.naturalWidth) return;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.globalAlpha = alpha;
    context.drawImage(picture, column * width, row * height, width, height,
      0, 0, canvas.width, canvas.height);
  }

  function canvasOf(label, pixels) {
    const [height, width] = sets[state.set].size;
    const scale = Math.max(1, Math.round(pixels / width));
    return element("canvas", {
      width: width * scale, height: height * scale, role: "img", "aria-label": label,
    });
  }

  // ---- the controls --------------------------------------------------------------------------
  const controls = element("form", { class: "explorer-controls", "aria-label": "What to show" });
  const choices = {};
  for (const [key, words] of [["set", "Trained on"], ["network", "Mechanism"], ["place", "Stage"]]) {
    choices[key] = element("select", { id: `explorer-${key}` });
    choices[key].addEventListener("change", () => {
      choose({ [key]: Number(choices[key].value) });
    });
    controls.append(element("label", { for: `explorer-${key}`, "data-for": key },
      element("span", {}, words), choices[key]));
  }
  const over = element("input", { type: "checkbox", id: "explorer-over" });
  over.addEventListener("change", () => choose({ over: over.checked }));
  controls.append(element("label", { class: "check", for: "explorer-over" }, over,
    element("span", {}, "maps over the picture")));
  controls.addEventListener("submit", (event) => event.preventDefault());

  const pictures = element("fieldset", { class: "explorer-pictures" });
  const answer = element("p", { class: "explorer-answer", role: "status" });
  root.replaceChildren(controls, pictures, answer);
  const maps = document.getElementById("explorer-maps");
  const effects = document.getElementById("explorer-effects");

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name, number) => {
      return element("option", { value: number, selected: number === chosen }, name);
    }));
    select.disabled = names.length < 2;
  }

  function nameOf(network, set) {
    const several = new Set(set.networks.map((one) => one.name.split(" ")[0])).size > 1;
    const words = network.block || "without a block";
    return several ? `${words} (${network.name.split(" ")[0]})` : words;
  }

  // A stage keeps its name when another mechanism is chosen, where that has maps there.
  function choose(changes) {
    const before = sets[state.set].networks[state.network].places[state.place];
    Object.assign(state, changes);
    const set = sets[state.set];
    if ("set" in changes) Object.assign(state, { network: first(set), picture: 0 });
    const places = set.networks[state.network].places;
    if ("set" in changes || "network" in changes) {
      const same = places.findIndex((place) => before && place.name === before.name);
      state.place = Math.max(0, same);
      build();
    }
    location.replace(`#${new URLSearchParams({
      set: set.name, mechanism: set.networks[state.network].block || "none",
      stage: places.length ? places[state.place].name : "", picture: state.picture + 1,
    })}`);
    show();
  }

  // CBAM to begin with, for it has maps of both kinds; else the first that has any.
  function first(set) {
    const cbam = set.networks.findIndex((network) => network.block === "cbam");
    const any = set.networks.findIndex((network) => network.places.length);
    return Math.max(0, cbam >= 0 ? cbam : any);
  }

  function fromAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const find = (list, test) => Math.max(0, list.findIndex(test));
    state.set = find(sets, (set) => set.name === wanted.get("set"));
    const set = sets[state.set];
    const named = set.networks.findIndex(
      (network) => (network.block || "none") === wanted.get("mechanism"));
    state.network = named >= 0 ? named : first(set);
    const places = set.networks[state.network].places;
    state.place = find(places, (place) => place.name === wanted.get("stage"));
    const picture = Number(wanted.get("picture")) - 1;
    state.picture = set.labels[picture] === undefined ? 0 : picture;
  }

  // ---- what is made anew when the mechanism or the dataset changes -----------------------------
  function build() {
    const set = sets[state.set];
    const network = set.networks[state.network];
    fill(choices.set, sets.map((one) => one.name), state.set);
    controls.querySelector("[data-for=set]").hidden = sets.length < 2;
    fill(choices.network, set.networks.map((one) => nameOf(one, set)), state.network);
    const names = network.places.map((place) => place.name);
    fill(choices.place, names.length ? names : ["no maps"], state.place);
    if (pictures.dataset.set !== set.name) {
      pictures.dataset.set = set.name;
      pictures.replaceChildren(element("legend", {}, "Picture"), ...set.labels.map(thumbnail));
    }
  }

  function thumbnail(label, number) {
    const set = sets[state.set];
    const words = `picture ${number + 1}: ${set.classes[label]}`;
    const radio = element("input", {
      type: "radio", name: "explorer-picture", value: number, "aria-label": words,
      checked: number === state.picture,
    });
    radio.addEventListener("change", () => choose({ picture: number }));
    const canvas = canvasOf(words, 64);
    canvas.removeAttribute("role");
    canvas.setAttribute("aria-hidden", "true");
    canvas.dataset.number = number;
    return element("label", { title: words }, radio, canvas);
  }

  // ---- what is shown ---------------------------------------------------------------------------
  function show() {
    const set = sets[state.set];
    const network = set.networks[state.network];
    const place = network.places[state.place];
    const label = set.labels[state.picture];
    const answers = network.answers[state.picture];
    const said = best(answers);
    answer.replaceChildren(
      `The picture shows: ${set.classes[label]}. The network answers: `,
      element("strong", {}, `${set.classes[said]} (${percent(answers[said])})`),
      said === label ? ", right." : `, wrong: ${set.classes[label]} gets ${percent(answers[label])}.`,
      ` It is ${network.name}, seed ${network.seed}, trained for ${network.epochs} epochs on ` +
      `${network.train_images.toLocaleString("en")} images of ${set.name}; ` +
      `${network.accuracy.toFixed(1)} % of its test images right. ${set.note}`);
    showMaps(set, network, place);
    showEffects(set, network, place, label);
    draw();
  }

  function card(title, note, draws, strip) {
    const canvas = canvasOf(title, 192);
    canvas.draws = draws;
    const figure = element("figure", {}, canvas,
      element("figcaption", {}, element("strong", {}, title), element("span", {}, note)));
    if (strip) figure.insertBefore(strip, figure.lastChild);
    return figure;
  }

  function showMaps(set, network, place) {
    const row = state.picture;
    const photo = [set.sprite, row, 0, 1];
    const heat = (column) => state.over
      ? [photo, [network.sprite, row, column, 0.6]] : [[network.sprite, row, column, 1]];
    const name = set.classes[set.labels[row]];
    const cards = [card(`picture ${row + 1}`, name, [photo])];
    const usual = "evidence for the answer in the maps of the last stage; 0 to its highest value";
    cards.push(card("Grad-CAM", usual, heat(network.gradcam)));
    if (place && place.gradcam) {
      cards.push(card(`Grad-CAM, ${place.name}`, "the same, in the maps of this stage",
        heat(place.gradcam)));
    }
    const kinds = { channel: "channels", spatial: "positions", both: "channels and positions",
      positions: "positions, mixing" };
    for (const map of place ? place.maps : []) {
      const low = map.low[row].toFixed(2), high = map.high[row].toFixed(2);
      const scale = map.top === null ? "scale 0 to 1" : `scale 0 to ${map.top}`;
      const values = map.kind === "positions" ? "" : ` Its values: ${low} to ${high}.`;
      const title = `${network.block}, ${map.where}: ${kinds[map.kind]}`;
      cards.push(card(title, `${map.how}; ${scale}.${values}`, heat(map.column),
        map.weights && strip(map.weights[row])));
    }
    maps.replaceChildren(...cards);
    if (!place) {
      maps.append(element("p", {}, "This network has no attention: Grad-CAM is the only map."));
    }
  }

  // A gate on channels is a row of numbers: a stripe a channel, on the fixed scale.
  function strip(weights) {
    const canvas = element("canvas", {
      class: "strip", width: weights.length * 4, height: 16, role: "img",
      "aria-label": `the weights of ${weights.length} channels, from ` +
        `${(Math.min(...weights) / 100).toFixed(2)} to ${(Math.max(...weights) / 100).toFixed(2)}`,
    });
    const context = canvas.getContext("2d");
    const last = data.scale.length - 1;
    weights.forEach((weight, number) => {
      context.fillStyle = data.scale[Math.round(weight / 100 * last)];
      context.fillRect(4 * number, 0, 4, 16);
    });
    return canvas;
  }

  function showEffects(set, network, place, label) {
    if (!place) {
      effects.replaceChildren(element("p", {}, "There is no map to replace."));
      return;
    }
    const whole = network.answers[state.picture];
    const shown = set.labels.length;
    const rows = [line(set, "as they are", whole, whole, label, network.here, null)];
    for (const [way, words] of Object.entries(data.ways)) {
      const found = place.ways[way];
      const row = line(set, words, found.answers[state.picture], whole, label, found.accuracy,
        found.changed);
      if (way === "other") {
        const other = (state.picture + shown - 1) % shown;
        const canvas = canvasOf(`picture ${other + 1}: ${set.classes[set.labels[other]]}`, 32);
        canvas.draws = [[set.sprite, other, 0, 1]];
        canvas.className = "other";
        row.firstChild.append(" ", canvas);
      }
      rows.push(row);
    }
    const heads = ["the maps are", "answer", "its probability", `probability of ${set.classes[label]}`,
      `right, of ${set.measured} pictures`, "answers that change"];
    effects.replaceChildren(element("table", { class: "docutils" },
      element("caption", {}, `Every map of ${place.name} replaced`),
      element("thead", {}, element("tr", {}, ...heads.map((words) => {
        return element("th", { scope: "col" }, words);
      }))), element("tbody", {}, ...rows)));
    [...effects.querySelectorAll("tbody tr")].forEach((row) => {
      [...row.children].forEach((cell, number) => cell.setAttribute("data-label", heads[number]));
    });
  }

  function line(set, words, answers, whole, label, accuracy, changed) {
    const said = best(answers);
    const other = said !== best(whole);
    const mark = said === label ? "right" : "wrong";
    return element("tr", { class: other ? "changed" : null },
      element("th", { scope: "row" }, words),
      element("td", {}, `${set.classes[said]} (${mark}${other ? ", another answer" : ""})`),
      element("td", {}, bar(answers[said])), element("td", {}, bar(answers[label])),
      element("td", {}, `${accuracy.toFixed(1)} %`),
      element("td", {}, changed === null ? "–" : `${changed.toFixed(1)} %`));
  }

  function bar(share) {
    return element("span", { class: "bar", style: `--share: ${share}` }, percent(share));
  }

  // ---- drawing ---------------------------------------------------------------------------------
  function draw() {
    const set = sets[state.set];
    for (const canvas of pictures.querySelectorAll("canvas")) {
      tile(canvas, set.sprite, Number(canvas.dataset.number), 0, 1);
    }
    for (const canvas of document.querySelectorAll("#explorer-maps canvas, #explorer-effects canvas")) {
      if (!canvas.draws) continue;
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
      for (const [address, row, column, alpha] of canvas.draws) {
        tile(canvas, address, row, column, alpha);
      }
    }
  }

  fromAddress();
  build();
  show();
})();
