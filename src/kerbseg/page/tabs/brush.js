// A round brush over the picture: what it covers is drawn at once; the server paints the labels when it is lifted.
// Each answer of the server lays the sheet anew, also while the next stroke is under way.
let stroke = null;

const scales = (sheet, image) => {
  const [width, height] = sheet.dataset.size.split(" ").map(Number); // of the picture; the sheet's may be smaller
  const box = image.getBoundingClientRect();
  return { box, x: width / box.width, y: height / box.height, ink: image.naturalWidth / width };
};

const move = (event) => {
  const image = element.querySelector("img");
  if (!image || !image.naturalWidth) return; // the next point finds it
  if (!stroke.canvas.isConnected) image.after(stroke.canvas);
  const { box, x, y, ink } = scales(element.querySelector(".sheet"), image);
  if (!box.width || !box.height) return;
  stroke.points.push([(event.clientX - box.left) * x, (event.clientY - box.top) * y]);
  draw(ink);
};

const draw = (ink) => {
  const pen = stroke.canvas.getContext("2d");
  pen.lineWidth = 2 * props.radius * ink;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = props.color;
  pen.beginPath();
  pen.moveTo(...stroke.points[0].map((value) => value * ink));
  stroke.points.forEach((point) => pen.lineTo(...point.map((value) => value * ink))); // a point alone is a disk
  pen.stroke();
};

element.addEventListener("pointerdown", (event) => {
  const image = element.querySelector("img");
  if (stroke || !image || event.button !== 0 || event.target !== image) return;
  event.preventDefault();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  stroke = { canvas, pointer: event.pointerId, of: element.querySelector(".sheet").dataset.of, points: [] };
  move(event);
});

window.addEventListener("pointermove", (event) => {
  if (stroke && event.pointerId === stroke.pointer) move(event);
});

const lift = (event) => {
  if (!stroke || event.pointerId !== stroke.pointer) return;
  const { points, of } = stroke;
  stroke = null;
  if (points.length) trigger("stroke", { points, of, radius: props.radius });
};
window.addEventListener("pointerup", lift);
window.addEventListener("pointercancel", lift);
