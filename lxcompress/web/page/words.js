/* Gives the texts of the page in English and Persian. A text with {} takes a detail. */

const ENGLISH = {
  skip: "Skip to the question",
  language: "Language",
  model: "Model",
  answeringModel: "Model that answers",
  loading: "Loading {}",
  ready: "Ready. {} answers on this device; nothing leaves it.",
  threads: "Threads in use: {}.",
  ask: "Ask about a scene",
  askPhoto: "Ask about a photograph",
  takePhoto: "Take a photograph", chooseFile: "Or choose a file",
  choosePhoto: "Take or choose a photograph first.",
  useSample: "Use the drawn sample",
  sampleOf: "The drawn sample: a yellow book, a blue cup and a red apple on a table.",
  photoOf: "Your photograph {}. It stays on this device.",
  noPhoto: "{} cannot be read as a photograph. Choose a JPEG, PNG or WebP file.",
  newScene: "New scene",
  addObject: "Add an object",
  removeObject: "Remove this object",
  changeObjects: "Change the objects",
  object: "Object {}",
  color: "Colour", shape: "Shape", size: "Size", material: "Material",
  right: "Left to right", front: "Back to front",
  sceneOf: "A scene of {} objects: ",
  leftSide: "left", rightSide: "right", middle: "middle", behind: "at the back", inFront: "at the front",
  question: "Question",
  askIn: "The model understands {}.",
  english: "English", persian: "Persian",
  answerIt: "Answer",
  example: "Ask an example",
  speakQuestion: "Speak the question",
  listening: "Listening",
  notHeard: "Nothing was heard. Type the question, or try again.",
  noMicrophone: "The browser does not let this page use the microphone. Type the question.",
  sayAnswer: "Say the answer aloud",
  notSure: "I am not sure",
  guess: "Best guess: {}",
  sure: "{} sure",
  unmeasured: "{} probable. How often such answers are right was not measured.",
  noQuestion: "Type a question first.",
  tooLong: "The question is too long for this model: it reads at most {} word pieces. Ask a shorter one.",
  otherAnswers: "Other possible answers",
  possibleAnswer: "Answer", probability: "Probability",
  measure: "Measure on this device",
  measureNote: "The files answer in turns, so that a device that gets warm slows all of them alike. It takes about a minute. Keep the page in front.",
  measured: "Files to measure",
  deviceName: "Name of this device",
  start: "Measure", stop: "Stop",
  noneChosen: "Choose at least one file to measure.",
  warmingUp: "Warming up {}",
  round: "{} of the questions answered",
  leftOut: "Left out, because it does not work in this browser: {}",
  done: "Measured.",
  stopped: "Stopped. The finished rounds are kept.",
  restored: "The page was closed while it measured. The finished rounds are below.",
  resultCaption: "Time of one answer. The ratio compares it with the first file; its 95 % interval is in brackets.",
  file: "File", ratio: "Ratio", memory: "Memory, MB",
  drift: "{} changed its speed while it was measured: wait until the device is cool, and measure again.",
  coarse: "The clock of this browser is coarse, so a sample is the mean of up to {} answers.",
  hidden: "The page was hidden while it measured: measure again.",
  notIsolated: "The server does not isolate this page, so the clock is coarse and there is one thread: use lxcompress serve, or let the server send the two headers of docs/phone.md.",
  send: "Send to the computer", save: "Save as a file",
  sent: "Sent. lxcompress report shows it.",
  notSent: "The computer did not take it ({}). Save the file, and use lxcompress bench RUN --import FILE.",
  about: "lxcompress {}. The engine is WebAssembly.",
  noModel: "These files read features that a page cannot make, so they can only be measured here.",
  missing: "{} could not be fetched. Check the network, and reload the page.",
  cut: "The network failed while a file was fetched. Reload the page.",
  damaged: "{} is damaged: it is not the file that was exported. Reload the page; if that does not help, make the page again with lxcompress app.",
  noWorker: "This browser cannot start the engine. Use a newer one: Chrome 91, Firefox 114, Safari 16.4.",
  oldBrowser: "This browser has no WebAssembly with SIMD. Use a newer one: Chrome 91, Firefox 114, Safari 16.4.",
  engine: "The engine says: {}",
  noMemory: "This device has too little memory for this model: choose a smaller file.",
  notKept: "This device has no room to keep the files, so the page works only with a network.",
};

const PERSIAN = {
  skip: "رفتن به پرسش",
  language: "زبان",
  model: "مدل",
  answeringModel: "مدلی که پاسخ می‌دهد",
  loading: "در حال بارگیری {}",
  ready: "آماده است. {} روی همین دستگاه پاسخ می‌دهد و چیزی از آن بیرون نمی‌رود.",
  threads: "تعداد رشته‌های پردازشی: {}.",
  ask: "پرسش دربارهٔ یک صحنه",
  askPhoto: "پرسش دربارهٔ یک عکس",
  takePhoto: "عکس بگیرید", chooseFile: "یا فایلی برگزینید",
  useSample: "نمونهٔ نقاشی‌شده",
  sampleOf: "نمونهٔ نقاشی‌شده: کتابی زرد، فنجانی آبی و سیبی سرخ روی میز.",
  choosePhoto: "نخست عکسی بگیرید یا برگزینید.",
  photoOf: "عکس شما {}. روی همین دستگاه می‌ماند.",
  noPhoto: "{} به عنوان عکس خوانده نمی‌شود. فایل JPEG، PNG یا WebP برگزینید.",
  newScene: "صحنهٔ تازه",
  addObject: "افزودن جسم",
  removeObject: "برداشتن این جسم",
  changeObjects: "تغییر جسم‌ها",
  object: "جسم {}",
  color: "رنگ", shape: "شکل", size: "اندازه", material: "جنس",
  right: "چپ به راست", front: "پشت به جلو",
  sceneOf: "صحنه‌ای با {} جسم: ",
  leftSide: "سمت چپ", rightSide: "سمت راست", middle: "وسط", behind: "در پشت", inFront: "در جلو",
  question: "پرسش",
  askIn: "مدل زبان {} را می‌فهمد.",
  english: "انگلیسی", persian: "فارسی",
  answerIt: "پاسخ بده",
  example: "یک پرسش نمونه",
  speakQuestion: "گفتن پرسش",
  listening: "در حال شنیدن",
  notHeard: "چیزی شنیده نشد. پرسش را بنویسید یا دوباره بگویید.",
  noMicrophone: "مرورگر به این صفحه اجازهٔ میکروفون نمی‌دهد. پرسش را بنویسید.",
  sayAnswer: "پاسخ با صدای بلند گفته شود",
  notSure: "مطمئن نیستم",
  guess: "بهترین حدس: {}",
  sure: "اطمینان {}",
  unmeasured: "احتمال {}. اندازه‌گیری نشده است که چنین پاسخی چقدر درست است.",
  noQuestion: "نخست پرسشی بنویسید.",
  tooLong: "پرسش برای این مدل بلند است: حداکثر {} تکه‌واژه می‌خواند. کوتاه‌تر بپرسید.",
  otherAnswers: "پاسخ‌های ممکن دیگر",
  possibleAnswer: "پاسخ", probability: "احتمال",
  measure: "اندازه‌گیری روی این دستگاه",
  measureNote: "فایل‌ها به نوبت پاسخ می‌دهند تا گرم شدن دستگاه همه را یکسان کند کند. حدود یک دقیقه طول می‌کشد. صفحه را باز نگه دارید.",
  measured: "فایل‌هایی که اندازه‌گیری می‌شوند",
  deviceName: "نام این دستگاه",
  start: "اندازه بگیر", stop: "بس است",
  noneChosen: "دست‌کم یک فایل برگزینید.",
  warmingUp: "در حال گرم کردن {}",
  round: "{} پرسش‌ها پاسخ داده شد",
  leftOut: "کنار گذاشته شد، چون در این مرورگر کار نمی‌کند: {}",
  done: "اندازه‌گیری شد.",
  stopped: "متوقف شد. دورهای کامل نگه داشته شدند.",
  restored: "صفحه هنگام اندازه‌گیری بسته شد. دورهای کامل در پایین است.",
  resultCaption: "زمان یک پاسخ. نسبت به فایل نخست است و بازهٔ ۹۵٪ آن در پرانتز.",
  file: "فایل", ratio: "نسبت", memory: "حافظه (MB)",
  drift: "سرعت {} هنگام اندازه‌گیری تغییر کرد: بگذارید دستگاه خنک شود و دوباره اندازه بگیرید.",
  coarse: "ساعت این مرورگر درشت است؛ پس هر نمونه میانگین حداکثر {} پاسخ است.",
  hidden: "صفحه هنگام اندازه‌گیری پنهان بود: دوباره اندازه بگیرید.",
  notIsolated: "سرور این صفحه را جدا نمی‌کند، پس ساعت درشت است و فقط یک رشته هست: lxcompress serve را به کار ببرید، یا دو سرایند docs/phone.md را بفرستید.",
  send: "فرستادن به رایانه", save: "ذخیره در فایل",
  sent: "فرستاده شد. فرمان lxcompress report آن را نشان می‌دهد.",
  notSent: "رایانه آن را نپذیرفت ({}). فایل را ذخیره کنید و lxcompress bench RUN --import FILE را به کار ببرید.",
  about: "lxcompress {}. موتور WebAssembly است.",
  noModel: "این فایل‌ها ویژگی‌هایی می‌خوانند که صفحه نمی‌تواند بسازد؛ اینجا فقط اندازه‌گیری می‌شوند.",
  missing: "{} دریافت نشد. شبکه را بررسی و صفحه را دوباره باز کنید.",
  cut: "شبکه هنگام دریافت فایل قطع شد. صفحه را دوباره باز کنید.",
  damaged: "{} خراب است: همان فایلی نیست که صادر شده بود. صفحه را دوباره باز کنید؛ اگر نشد، با lxcompress app دوباره بسازید.",
  noWorker: "این مرورگر نمی‌تواند موتور را اجرا کند. نسخهٔ تازه‌تری به کار ببرید: Chrome 91، Firefox 114، Safari 16.4.",
  oldBrowser: "این مرورگر WebAssembly با SIMD ندارد. نسخهٔ تازه‌تری به کار ببرید: Chrome 91، Firefox 114، Safari 16.4.",
  engine: "پیام موتور: {}",
  noMemory: "حافظهٔ این دستگاه برای این مدل کم است: فایل کوچک‌تری برگزینید.",
  notKept: "این دستگاه جایی برای نگه داشتن فایل‌ها ندارد؛ پس صفحه فقط با شبکه کار می‌کند.",
};

const LANGUAGES = { en: ENGLISH, fa: PERSIAN };
let language = "en";

/* Returns the text under `key` in the chosen language, with `detail` in place of {}. In Persian, characters around the detail
   keep its own direction: many details are English. */
export function say(key, detail = "") {
  const shown = language === "fa" ? `\u2068${detail}\u2069` : detail;
  return LANGUAGES[language][key].replace("{}", () => shown);
}

/* Returns a share of 0 to 1 as a percentage, in the digits of the language. */
export function sayShare(share) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(share);
}

/* Returns a count in the digits of the language. */
export function sayCount(count) {
  return new Intl.NumberFormat(language).format(count);
}

export function getLanguage() {
  return language;
}

/* Writes every text of the page in the language `chosen`, in its direction. */
export function setLanguage(chosen) {
  language = chosen in LANGUAGES ? chosen : "en";
  document.documentElement.lang = language;
  document.documentElement.dir = language === "fa" ? "rtl" : "ltr";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
}
