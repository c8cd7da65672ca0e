#include "settings.hpp"

#include <algorithm>
#include <sstream>
#include <utility>

#include "failure.hpp"

namespace gprann {

Settings::Settings(const Json& table, std::string what) : table_(table), what_(std::move(what)) {
  if (!table.is(Json::Kind::table)) throw damaged(what_ + " is no table");
}

void Settings::fail(const std::string& key, const std::string& expected) const {
  throw damaged("'" + key + "' of " + what_ + ": expected " + expected);
}

const Json* Settings::value(const std::string& key) const {
  const Json* found = table_.find(key);
  return found == nullptr || found->is(Json::Kind::null) ? nullptr : found;
}

const Json& Settings::require(const std::string& key) const {
  const Json* found = value(key);
  if (found == nullptr) fail(key, "a value, it is missing");
  return *found;
}

std::string Settings::text(const std::string& key) const {
  const Json& found = require(key);
  if (!found.is(Json::Kind::text)) fail(key, "a text");
  return found.text();
}

double Settings::number(const std::string& key, double missing, double least, double most) const {
  const Json* found = table_.find(key);
  if (found == nullptr) return missing;
  if (!found->is(Json::Kind::number) || !(found->number() >= least && found->number() <= most)) {
    std::ostringstream bounds;
    bounds.imbue(std::locale::classic());
    bounds << "a number from " << least << " to " << most;
    fail(key, bounds.str());
  }
  return found->number();
}

int Settings::whole(const std::string& key, int missing, int least, int most) const {
  const Json* found = table_.find(key);
  if (found != nullptr && !found->is_whole()) fail(key, "a whole number");
  return static_cast<int>(number(key, missing, least, most));
}

std::vector<std::vector<double>> Settings::rows(const std::string& key, std::size_t length) const {
  const Json& found = require(key);
  if (!found.is(Json::Kind::list)) fail(key, "a list");
  std::vector<std::vector<double>> all;
  for (const Json& item : found.items()) {
    if (!item.is(Json::Kind::list) || item.items().size() != length)
      fail(key, "lists of " + std::to_string(length) + " numbers, one for each element");
    all.emplace_back();
    for (const Json& entry : item.items()) {
      if (!entry.is(Json::Kind::number)) fail(key, "numbers");
      all.back().push_back(entry.number());
    }
  }
  return all;
}

std::vector<double> Settings::numbers_of(const std::string& key,
                                         const std::vector<std::string>& names) const {
  const Json& found = require(key);
  if (!found.is(Json::Kind::table)) fail(key, "a number for each element");
  std::vector<double> all;
  for (const std::string& name : names) {
    const Json* entry = found.find(name);
    if (entry == nullptr || !entry->is(Json::Kind::number)) fail(key, "a number for " + name);
    all.push_back(entry->number());
  }
  return all;
}

std::vector<std::string> Settings::texts(const std::string& key) const {
  const Json& found = require(key);
  if (!found.is(Json::Kind::list)) fail(key, "a list of texts");
  std::vector<std::string> all;
  for (const Json& item : found.items()) {
    if (!item.is(Json::Kind::text)) fail(key, "a list of texts");
    all.push_back(item.text());
  }
  return all;
}

void Settings::allow(const std::vector<std::string>& keys) const {
  for (const std::string& name : table_.names())
    if (std::find(keys.begin(), keys.end(), name) == keys.end())
      throw Failure(GPRANN_UNSUPPORTED,
                    "'" + name + "' of " + what_ +
                        " is not known here; use the potential in Python, or a newer gprann");
}

}  // namespace gprann
