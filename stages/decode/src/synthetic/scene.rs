//! The scene: a panning textured ground, moving objects that occlude each other, shadows, light, blur, noise.

use std::sync::Arc;

use flow_frame::{BBox, Detection, GroundTruth};

use super::random::{Random, mix, value_noise};
use super::shape::{CLASS_NAMES, Shape};

/// What scenes look like. Where a low and a high value are given, each scene draws its own in between.
#[derive(Debug, Clone, Copy)]
pub struct SceneOptions {
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Number of objects.
    pub objects: [u32; 2],
    /// Strength of the sensor noise: standard deviation in sample steps (0..=255), about.
    pub noise: [f32; 2],
    /// Strength of the blur from 0 (sharp) to 1.
    pub blur: [f32; 2],
}

struct Object {
    shape: Shape,
    pattern: u8,
    seed: u64,
    colors: [[f32; 3]; 2],
    radius: f32,
    start: (f32, f32),
    velocity: (f32, f32),
    sway: (f32, f32),
    tilt: f32,
    spin: f32,
    breath: (f32, f32),
}

/// Place, size and tilt of an object at one moment.
struct Pose {
    x: f32,
    y: f32,
    radius: f32,
    cos: f32,
    sin: f32,
}

/// A random scene that can be drawn at any time.
pub struct Scene {
    options: SceneOptions,
    noise: f32,
    blur: f32,
    seed: u64,
    start: f32,
    objects: Vec<Object>,
    ground: [[f32; 3]; 3],
    ground_scale: f32,
    pan: (f32, f32),
    light: (f32, f32, f32),
    labels: Vec<Arc<str>>,
    canvas: Vec<[f32; 3]>,
    scratch: Vec<[f32; 3]>,
    owner: Vec<u16>,
    /// Extent of each object in the picture, and its pixels.
    drawn: Vec<Option<(BBox, u32)>>,
    /// Pixels of each owner that are seen.
    visible: Vec<u32>,
}

fn color(random: &mut Random, low: f32, high: f32) -> [f32; 3] {
    std::array::from_fn(|_| random.range(low, high))
}

/// A vivid colour: one channel strong, one weak.
fn vivid(random: &mut Random) -> [f32; 3] {
    let mut c = color(random, 0.2, 0.85);
    c[random.below(3)] = random.range(0.8, 1.0);
    c[random.below(3)] *= 0.35;
    c
}

/// Moves `v` to and fro between `low` and `high`.
fn bounce(v: f32, low: f32, high: f32) -> f32 {
    let span = (high - low).max(1.0);
    let t = (v - low).rem_euclid(2.0 * span);
    low + if t > span { 2.0 * span - t } else { t }
}

impl Scene {
    /// The scene of a seed.
    pub fn new(seed: u64, options: SceneOptions) -> Self {
        let mut random = Random::new(mix(seed));
        let (w, h) = (options.width as f32, options.height as f32);
        let small = w.min(h);
        let [low, high] = options.objects;
        let count = low + random.below((high.saturating_sub(low) + 1) as usize) as u32;
        let noise = random.range(options.noise[0], options.noise[1]);
        let blur = random.range(options.blur[0], options.blur[1]);
        let objects = (0..count)
            .map(|_| {
                let shape = Shape::ALL[random.below(Shape::ALL.len())];
                let radius = small * random.range(0.065, 0.17);
                Object {
                    shape,
                    pattern: random.below(4) as u8,
                    seed: random.next(),
                    colors: [vivid(&mut random), color(&mut random, 0.1, 1.0)],
                    radius,
                    start: (random.range(0.0, w), random.range(0.0, h)),
                    velocity: (random.range(-0.22, 0.22) * w, random.range(-0.18, 0.18) * h),
                    sway: (random.range(0.0, 0.06) * small, random.range(0.4, 1.6)),
                    tilt: random.range(-1.0, 1.0) * shape.max_tilt(),
                    spin: if shape.max_tilt() > 1.0 {
                        random.range(-0.8, 0.8)
                    } else {
                        0.0
                    },
                    breath: (random.range(0.0, 0.1), random.range(0.3, 1.2)),
                }
            })
            .collect();
        let pixels = options.width as usize * options.height as usize;
        Self {
            options,
            noise,
            blur,
            seed,
            start: random.range(0.0, 20.0),
            objects,
            ground: std::array::from_fn(|_| color(&mut random, 0.12, 0.78)),
            ground_scale: random.range(0.012, 0.05),
            pan: (random.range(-14.0, 14.0), random.range(-9.0, 9.0)),
            light: (
                random.range(-0.35, 0.35),
                random.range(-0.35, 0.35),
                random.range(0.7, 1.1),
            ),
            labels: CLASS_NAMES.iter().map(|&n| Arc::from(n)).collect(),
            canvas: vec![[0.0; 3]; pixels],
            scratch: vec![[0.0; 3]; pixels],
            owner: vec![0; pixels],
            drawn: Vec::new(),
            visible: Vec::new(),
        }
    }

    /// Draws the scene at `time` seconds as packed RGB into `rgb` (`width * height * 3` bytes). `index`
    /// seeds the noise of this picture. The truth lists each object whose outline touches the picture; its
    /// score is the visible share of the outline's pixels.
    ///
    /// # Panics
    /// If `rgb` has another length.
    pub fn draw(&mut self, time: f32, index: u64, rgb: &mut [u8]) -> GroundTruth {
        let mut truth = GroundTruth::default();
        self.draw_into(time, index, rgb, &mut truth);
        truth
    }

    /// As [`draw`](Self::draw), with the truth in the place of what `truth` holds.
    ///
    /// # Panics
    /// If `rgb` has another length.
    pub fn draw_into(&mut self, time: f32, index: u64, rgb: &mut [u8], truth: &mut GroundTruth) {
        let time = time + self.start;
        assert_eq!(rgb.len(), self.canvas.len() * 3, "packed RGB");
        self.draw_ground(time);
        self.owner.fill(0);
        self.drawn.clear();
        for i in 0..self.objects.len() {
            let pose = self.pose(i, time);
            self.draw_shadow(i, &pose);
            let extent = self.draw_object(i, &pose);
            self.drawn.push(extent);
        }
        self.note_truth(truth);
        self.finish(time, index, rgb);
    }

    fn pose(&self, index: usize, time: f32) -> Pose {
        let o = &self.objects[index];
        let (w, h) = (self.options.width as f32, self.options.height as f32);
        let sway = o.sway.0 * (time * o.sway.1 * 3.0 + index as f32).sin();
        let x = bounce(
            o.start.0 + o.velocity.0 * time,
            -0.2 * o.radius,
            w + 0.2 * o.radius,
        );
        let y = bounce(
            o.start.1 + o.velocity.1 * time + sway,
            -0.2 * o.radius,
            h + 0.2 * o.radius,
        );
        let radius = o.radius * (1.0 + o.breath.0 * (time * o.breath.1 * 3.0).sin());
        let (sin, cos) = (o.tilt + o.spin * time).sin_cos();
        Pose {
            x,
            y,
            radius,
            cos,
            sin,
        }
    }

    fn draw_ground(&mut self, time: f32) {
        let (w, s) = (self.options.width as usize, self.ground_scale);
        let (px, py) = (self.pan.0 * time, self.pan.1 * time);
        let seed = self.seed;
        // Noise is smooth: every fourth pixel is enough, the rest is interpolated along the row.
        for (y, row) in self.canvas.chunks_exact_mut(w).enumerate() {
            let fy = (y as f32 + py) * s;
            let sample = |x: usize| {
                let fx = (x as f32 + px) * s;
                // Turned against the pixel grid and each other, the two lattices do not show.
                let coarse = value_noise(fx * 0.8 - fy * 0.6, fy * 0.8 + fx * 0.6, seed);
                let fine = value_noise(fx * 3.9 + fy * 1.8, fy * 3.9 - fx * 1.8, seed ^ 1);
                (coarse, fine)
            };
            let mut left = sample(0);
            for x0 in (0..w).step_by(4) {
                let right = sample(x0 + 4);
                for (i, pixel) in row[x0..(x0 + 4).min(w)].iter_mut().enumerate() {
                    let t = i as f32 / 4.0;
                    let coarse = left.0 + (right.0 - left.0) * t;
                    let fine = left.1 + (right.1 - left.1) * t;
                    let a = (coarse * 1.6 - 0.3).clamp(0.0, 1.0);
                    let b = (fine * 1.8 - 0.5).clamp(0.0, 1.0) * 0.45;
                    *pixel = std::array::from_fn(|c| {
                        let base = self.ground[0][c] * (1.0 - a) + self.ground[1][c] * a;
                        base * (1.0 - b) + self.ground[2][c] * b
                    });
                }
                left = right;
            }
        }
    }

    /// Calls `paint(pixel index, local x, local y, coverage)` for the pixels that the outline, grown by
    /// `soft` radii, touches.
    fn for_pixels(&self, shape: Shape, pose: &Pose, soft: f32, mut paint: impl FnMut(usize, f32, f32, f32)) {
        let (w, h) = (self.options.width as i32, self.options.height as i32);
        let reach = pose.radius * (1.5 + soft) + 2.0;
        let x0 = ((pose.x - reach) as i32).clamp(0, w);
        let x1 = ((pose.x + reach) as i32 + 1).clamp(0, w);
        let y0 = ((pose.y - reach) as i32).clamp(0, h);
        let y1 = ((pose.y + reach) as i32 + 1).clamp(0, h);
        let edge = if soft > 0.0 { 1.0 / soft } else { pose.radius };
        for y in y0..y1 {
            for x in x0..x1 {
                let (dx, dy) = (
                    (x as f32 + 0.5 - pose.x) / pose.radius,
                    (y as f32 + 0.5 - pose.y) / pose.radius,
                );
                let (lx, ly) = (dx * pose.cos + dy * pose.sin, dy * pose.cos - dx * pose.sin);
                let coverage = (0.5 - shape.distance(lx, ly) * edge).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    paint((y * w + x) as usize, lx, ly, coverage);
                }
            }
        }
    }

    fn draw_shadow(&mut self, index: usize, pose: &Pose) {
        let mut canvas = std::mem::take(&mut self.canvas);
        let away = (0.12 - self.light.0 * 0.3, 0.18 - self.light.1 * 0.3);
        let cast = Pose {
            x: pose.x + away.0 * pose.radius,
            y: pose.y + away.1 * pose.radius,
            ..*pose
        };
        self.for_pixels(self.objects[index].shape, &cast, 0.25, |i, _, _, coverage| {
            for c in &mut canvas[i] {
                *c *= 1.0 - 0.45 * coverage;
            }
        });
        self.canvas = canvas;
    }

    /// Returns the extent of the pixels that are more inside than outside, and their number.
    fn draw_object(&mut self, index: usize, pose: &Pose) -> Option<(BBox, u32)> {
        let mut canvas = std::mem::take(&mut self.canvas);
        let mut owner = std::mem::take(&mut self.owner);
        let (o, w) = (&self.objects[index], self.options.width as usize);
        let mut extent: Option<(BBox, u32)> = None;
        self.for_pixels(o.shape, pose, 0.0, |i, lx, ly, coverage| {
            let (blend, shade) = o.shape.surface(lx, ly, o.pattern, o.seed);
            for (c, value) in canvas[i].iter_mut().enumerate() {
                let paint = (o.colors[0][c] * (1.0 - blend) + o.colors[1][c] * blend) * shade;
                *value = *value * (1.0 - coverage) + paint * coverage;
            }
            if coverage >= 0.5 {
                owner[i] = index as u16 + 1;
                let (x, y) = ((i % w) as f32, (i / w) as f32);
                let (b, n) = extent.get_or_insert((
                    BBox {
                        x1: x,
                        y1: y,
                        x2: x + 1.0,
                        y2: y + 1.0,
                    },
                    0,
                ));
                b.x1 = b.x1.min(x);
                b.y1 = b.y1.min(y);
                b.x2 = b.x2.max(x + 1.0);
                b.y2 = b.y2.max(y + 1.0);
                *n += 1;
            }
        });
        self.canvas = canvas;
        self.owner = owner;
        extent
    }

    fn note_truth(&mut self, truth: &mut GroundTruth) {
        self.visible.clear();
        self.visible.resize(self.drawn.len() + 1, 0);
        for &o in &self.owner {
            self.visible[o as usize] += 1;
        }
        let drawn = self.drawn.iter().enumerate();
        let items = drawn.filter_map(|(i, extent)| {
            let (bbox, inside) = (*extent)?;
            let o = &self.objects[i];
            // Pixels beyond the picture's edge hide an object as another object would.
            let whole = outline_pixels(o.shape) * o.radius * o.radius;
            let class = o.shape as u32;
            Some(Detection {
                bbox,
                class,
                label: self.labels[class as usize].clone(),
                score: (self.visible[i + 1] as f32 / whole.max(inside as f32)).min(1.0),
                track: Some(i as u64),
            })
        });
        truth.items.clear();
        truth.items.extend(items);
    }

    /// Light, blur, noise, and conversion to 8 bits.
    fn finish(&mut self, time: f32, index: u64, rgb: &mut [u8]) {
        let (w, h) = (self.options.width as usize, self.options.height as usize);
        if self.blur > 0.0 {
            let focus = self.blur * (0.6 + 0.4 * (time * 0.9).sin());
            blur_rows(&self.canvas, &mut self.scratch, w, focus);
            blur_columns(&self.scratch, &mut self.canvas, w, h, focus);
        }
        let flicker = self.light.2 * (1.0 + 0.06 * (time * 2.3).sin());
        let noise = self.noise * 1.73;
        for (y, row) in self.canvas.chunks_exact(w).enumerate() {
            let v = y as f32 / h as f32 - 0.5;
            for (x, pixel) in row.iter().enumerate() {
                let u = x as f32 / w as f32 - 0.5;
                let light = flicker * (1.0 + self.light.0 * u + self.light.1 * v - 0.35 * (u * u + v * v));
                let mut bits = mix(self.seed ^ index << 32 ^ (y * w + x) as u64);
                let i = (y * w + x) * 3;
                for (c, out) in rgb[i..i + 3].iter_mut().enumerate() {
                    // The sum of two uniform values is close enough to a bell.
                    let a = (bits & 0x3ff) as f32 / 1023.0;
                    let b = (bits >> 10 & 0x3ff) as f32 / 1023.0;
                    bits >>= 20;
                    let value = pixel[c] * light * 255.0 + (a + b - 1.0) * noise;
                    *out = value.clamp(0.0, 255.0) as u8;
                }
            }
        }
    }
}

/// Pixels inside the outline of a shape of radius 1 pixel, on average.
fn outline_pixels(shape: Shape) -> f32 {
    match shape {
        Shape::Ball => std::f32::consts::PI,
        Shape::Crate => 3.08,
        Shape::Star => 1.32,
        Shape::Ring => 2.42,
        Shape::Cone => 1.46,
        Shape::Cross => 2.26,
    }
}

fn blur_rows(from: &[[f32; 3]], to: &mut [[f32; 3]], w: usize, amount: f32) {
    for (src, dst) in from.chunks_exact(w).zip(to.chunks_exact_mut(w)) {
        for x in 0..w {
            let (l, r) = (src[x.saturating_sub(1)], src[(x + 1).min(w - 1)]);
            dst[x] = soften(src[x], l, r, amount);
        }
    }
}

fn blur_columns(from: &[[f32; 3]], to: &mut [[f32; 3]], w: usize, h: usize, amount: f32) {
    for y in 0..h {
        let (up, down) = (y.saturating_sub(1) * w, (y + 1).min(h - 1) * w);
        for x in 0..w {
            to[y * w + x] = soften(from[y * w + x], from[up + x], from[down + x], amount);
        }
    }
}

fn soften(mid: [f32; 3], a: [f32; 3], b: [f32; 3], amount: f32) -> [f32; 3] {
    std::array::from_fn(|c| mid[c] * (1.0 - amount * 2.0 / 3.0) + (a[c] + b[c]) * (amount / 3.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SceneOptions = SceneOptions {
        width: 160,
        height: 96,
        objects: [6, 6],
        noise: [3.0, 3.0],
        blur: [0.5, 0.5],
    };

    #[test]
    fn a_seed_gives_the_same_picture_and_truth() {
        let draw = |seed| {
            let mut rgb = vec![0; 160 * 96 * 3];
            let truth = Scene::new(seed, OPTIONS).draw(1.5, 45, &mut rgb);
            (rgb, truth)
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7).0, draw(8).0);
    }

    #[test]
    fn truth_lies_inside_the_picture_and_hidden_objects_score_low() {
        let mut rgb = vec![0; 160 * 96 * 3];
        for seed in 0..40 {
            for t in &Scene::new(
                seed,
                SceneOptions {
                    objects: [12, 12],
                    ..OPTIONS
                },
            )
            .draw(0.7, 0, &mut rgb)
            .items
            {
                assert!(t.bbox.x1 >= 0.0 && t.bbox.x2 <= 160.0 && t.bbox.y1 >= 0.0 && t.bbox.y2 <= 96.0);
                assert!(t.bbox.area() >= 1.0 && (0.0..=1.0).contains(&t.score), "{t:?}");
            }
        }
    }

    #[test]
    fn the_area_of_each_outline_is_as_stated() {
        for shape in Shape::ALL {
            let n = (0..400 * 400)
                .filter(|i| {
                    shape.distance((i % 400) as f32 / 100.0 - 2.0, (i / 400) as f32 / 100.0 - 2.0) <= 0.0
                })
                .count();
            let area = n as f32 / 1e4;
            assert!(
                (area / outline_pixels(shape) - 1.0).abs() < 0.03,
                "{shape:?}: {area}"
            );
        }
    }
}
